package server_test

import (
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

func TestAnAnswerDelayIsALineAndNotASleep(t *testing.T) {
	faults := server.NewFaults()
	a := start(t, storetest.Etcd(t), "a", func(c *server.Config) { c.Faults = faults })
	const delay = 400 * time.Millisecond
	faults.SetAnswerDelay(delay)

	from := time.Now()
	c := dial(t, a.addr())
	c.send(connect5bytes("c", "im/phone", "alice", 20))
	c.connack(0)
	if took := time.Since(from); took < delay/2 {
		t.Errorf("CONNACK came after %v", took)
	}
	online(t, a, "phone", "c")

	// Five pings at once are answered at once, late; what is in between leaves
	// in order.
	from = time.Now()
	for range 5 {
		ping(t, c.conn)
	}
	c.send([]byte("\x82\x07\x00\x01\x00\x00\x01t\x01"))
	eventually(t, "the beats have counted before they are answered", func() bool {
		return a.metric("rollcall_server_beats_total", "", "") >= 5
	})
	t.Logf("they have counted after %v", time.Since(from))
	for range 5 {
		if p := c.packet(); p.Type != packets.PINGRESP {
			t.Fatalf("%v, want PINGRESP", p.PacketType())
		}
	}
	if p := c.packet(); p.Type != packets.SUBACK {
		t.Fatalf("%v, want SUBACK", p.PacketType())
	}
	took := time.Since(from)
	t.Logf("six answers took %v, with a delay of %v", took, delay)
	if took < delay/2 {
		t.Errorf("six answers took %v, want %v", took, delay)
	}
	if worst := a.metric("rollcall_server_queue_delay_seconds", "", ""); worst < delay.Seconds()/2 {
		t.Errorf("the queue delay is %v s, want at least %v", worst, delay)
	}
	eventually(t, "the server's record says so", func() bool { return entry(t, a.store, a.name).QueueDelay >= 512 })

	faults.SetAnswerDelay(0)
	eventually(t, "answers are prompt again", func() bool {
		from := time.Now()
		ping(t, c.conn)
		c.packet()
		return time.Since(from) < delay
	})
}
