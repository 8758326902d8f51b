// Package client keeps a Go program present in Rollcall: a session on one
// heartbeat server, and on another one at once when that server is late, broken
// or says so.
//
// Dial returns when a server has taken the client; New returns at once and
// connects in the background. From then on the client beats, watches the
// answers, and moves by itself; Event tells what became of it. Close leaves.
//
// Watch tells who else is here. NetworkChanged, Foreground, Background, Wake and
// Move are what a program can tell its client. docs/heartbeats.md says what each
// setting is for, and what it costs.
//
// What is decided (which server next, when to beat, when to leave, how long to
// wait, who is new) is in core, beats, rhythm, routes and roll: state, event, now
// → state, actions. They read no clock and do no I/O; loop carries their actions
// out. The MQTT packets are paho's; its reconnecting client (autopaho) is not
// used, because it can't carry where to go next.
package client
