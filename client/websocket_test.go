package client

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A server may ping by WebSocket itself (RFC 6455, section 5.5.2), to keep a proxy
// from forgetting the connection. Whoever dials WebSocket answers without asking the client.
func TestAWebSocketsPingsAreAnswered(t *testing.T) {
	one := server(a)
	pinged := make(chan error, 8)
	there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			pinged <- err
			return
		}
		served := make(chan struct{})
		go func() { // reading is what takes the answers
			defer close(served)
			one.serve(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
		}()
		for range 3 {
			ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
			pinged <- ws.Ping(ctx)
			cancel()
		}
		<-served
	}))
	defer there.Close()

	connected := make(chan Event, 8)
	c, err := New(Config{
		Servers: []string{there.Listener.Addr().String()}, Presence: "im/android", ClientID: "ann", Interval: time.Hour, AckTimeout: time.Minute,
		OnEvent: func(e Event) { connected <- e },
		Dialer: func(ctx context.Context, _, address string) (net.Conn, error) {
			ws, _, err := websocket.Dial(ctx, "ws://"+address, &websocket.DialOptions{Subprotocols: []string{"mqtt"}}) //nolint:bodyclose // there is none after an upgrade
			if err != nil {
				return nil, err
			}
			return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		select {
		case err := <-pinged:
			if err != nil {
				t.Errorf("a ping stayed unanswered: %v", err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("nobody was pinged")
		}
	}
	select {
	case e := <-connected:
		if e.Kind != Connected {
			t.Errorf("%s: %v", e.Kind, e.Err)
		}
	case <-time.After(time.Minute):
		t.Error("the client does not connect over WebSocket")
	}
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
