package server

import (
	"context"
	"time"

	"github.com/coder/websocket"
)

// pongWithin is the least time that a client over WebSocket has to answer a ping: one that
// connects may have to wait for its credential to be checked.
const pongWithin = 2 * authenticateWithin

// ping pings a client until the context ends. One that does not answer is disconnected;
// its session lives until its lease ends, as it does when a connection breaks.
func (w *webSocket) ping(ctx context.Context, p *peer, conn *websocket.Conn) {
	every := w.s.cfg.WebSocketPing
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		answered, cancel := context.WithTimeout(ctx, max(every, pongWithin))
		err := conn.Ping(answered)
		cancel()
		switch {
		case err == nil:
		case ctx.Err() != nil, p.leaving.Load():
			return
		default:
			w.s.turnedAway(whyPong, p.link.remote())
			p.cut()
			return
		}
	}
}

// cut ends the connection without a word.
func (p *peer) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		p.leaving.Store(true)
		p.link.abort()
	}
}
