package server_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

func TestWhoDoesNotAnswerAPingOverWebSocketIsDisconnected(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", onWeb, func(c *server.Config) { c.WebSocketPing = time.Second })
	pinged := func(answers bool) (*websocket.Conn, *atomic.Int64) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		pings := new(atomic.Int64)
		c, _, err := websocket.Dial(ctx, "ws://"+a.AddrWebSocket().String(), //nolint:bodyclose // there is none after an upgrade
			&websocket.DialOptions{Subprotocols: []string{"mqtt"}, OnPingReceived: func(context.Context, []byte) bool {
				pings.Add(1)
				return answers
			}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		return c, pings
	}
	answering, pings := pinged(true)
	alive := overWeb(t, answering, "alive")
	silent, ignored := pinged(false)
	deaf := overWeb(t, silent, "deaf")
	online(t, a, "phone", "deaf")
	deaf.ends(t)
	if got := a.refused("pong"); got != 1 {
		t.Errorf("%v were counted", got)
	}
	if ignored.Load() == 0 {
		t.Error("it was never pinged")
	}
	eventually(t, "who answers is pinged again", func() bool { return pings.Load() >= 3 })
	ping(t, alive.conn)
	if s, _ := record(t, a.store, "phone", "deaf"); s.Offline {
		t.Error("its session ended with its connection")
	}
}

// A browser answers a ping by itself: that proves nothing of the program on its page.
func TestAnAnswerToAPingOverWebSocketIsNoBeat(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", onWeb, func(c *server.Config) { c.WebSocketPing = time.Second })
	conn := dialWeb(t, "ws://"+a.AddrWebSocket().String(), nil, "mqtt")
	over := websocket.NetConn(t.Context(), conn, websocket.MessageBinary)
	if _, err := over.Write(connect5bytes("hung", "im/quick", "alice", 5)); err != nil {
		t.Fatal(err)
	}
	go func() { // reads, and so answers pings
		for b := make([]byte, 64); ; {
			if _, err := over.Read(b); err != nil {
				return
			}
		}
	}()
	online(t, a, "quick", "hung")
	eventually(t, "it is offline", func() bool { s, _ := record(t, a.store, "quick", "hung"); return s.Offline })
}
