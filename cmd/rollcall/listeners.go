package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/rollcall-dev/rollcall/server"
)

// listenerOptions say where a heartbeat server listens besides, and how.
type listenerOptions struct {
	balanced                         string
	webSocketPing                    time.Duration
	beats, beatsTLS, beatsAdvertised string
}

func (o *listenerOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.balanced, "balanced-listen", "", "`address` for MQTT behind a load balancer that begins each connection with a PROXY protocol v2 header, over TLS where --tls-listen is given; empty: none")
	f.DurationVar(&o.webSocketPing, "websocket-ping", 0, "how `often` clients over WebSocket are pinged; one that does not answer until the next is disconnected. Its answers are no beats; 0: never")
	f.StringVar(&o.beats, "beats-listen", "", "`address` for beats by HTTP (PUT /v1/beats/NAMESPACE/PRESENCE/CLIENT), without TLS: tokens can be read on the way; empty: none")
	f.StringVar(&o.beatsTLS, "beats-tls-listen", "", "`address` for beats by HTTP with TLS; empty: none")
	f.StringVar(&o.beatsAdvertised, "beats-advertise", "", "`address` at which clients reach this very server by HTTP, host:port; empty: the host of --advertise, and the port that is listened on")
}

// check needs the addresses of all listeners.
func (o *listenerOptions) check(c *checks, listeners map[server.Listener]string) {
	for _, name := range []server.Listener{server.ListenerBalanced, server.ListenerBeats, server.ListenerBeatsTLS} {
		if listeners[name] != "" {
			c.address(string(name), listeners[name], true)
		}
	}
	if o.beatsTLS != "" && listeners[server.ListenerTLS] == "" {
		c.fail("beats-tls-listen", "needs --tls-listen, whose certificate it shows")
	}
	if o.beatsAdvertised != "" {
		c.address("beats-advertise", o.beatsAdvertised, false)
		if o.beats == "" && o.beatsTLS == "" {
			c.fail("beats-advertise", "does nothing without --beats-tls-listen or --beats-listen")
		}
	}
	switch {
	case o.webSocketPing < 0, o.webSocketPing > 0 && o.webSocketPing < server.MinWebSocketPing:
		c.fail("websocket-ping", "%v must be at least %v, or 0 for never", o.webSocketPing, server.MinWebSocketPing)
	case o.webSocketPing > 0 && listeners[server.ListenerWebSocket] == "" && listeners[server.ListenerWebSocketTLS] == "":
		c.fail("websocket-ping", "does nothing without --websocket-tls-listen or --websocket-listen")
	}
}
