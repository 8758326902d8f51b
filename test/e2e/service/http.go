package service

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// answerWithin is the patience of an ordinary HTTP client.
const answerWithin = 5 * time.Second

// pages are what a server answers: its name, after as much work as is asked for.
func pages(name string, w *worker) http.Handler {
	mux := http.NewServeMux()
	answer := func(rw http.ResponseWriter, r *http.Request) {
		units := usual
		if q := r.URL.Query().Get("units"); q != "" {
			var err error
			if units, err = strconv.Atoi(q); err != nil || units < 0 {
				http.Error(rw, fmt.Sprintf("units is %q: it must be a number from 0 on", q), http.StatusBadRequest)
				return
			}
		}
		if w.do(r.Context(), units) == nil {
			_, _ = io.WriteString(rw, name)
		}
	}
	mux.HandleFunc("GET /{$}", answer)
	mux.HandleFunc("GET /healthz", answer)
	mux.HandleFunc("GET /chat", func(rw http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return // it has answered
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			if _, _, err := conn.Read(r.Context()); err != nil {
				return
			}
			if w.do(r.Context(), usual) != nil || conn.Write(r.Context(), websocket.MessageText, []byte(name)) != nil {
				return
			}
		}
	})
	return mux
}

// getter asks with GET requests on a connection that is kept.
type getter struct {
	client http.Client
	url    string
	lines  *lines
}

func newGetter(lines *lines, address string, units int) *getter {
	return &getter{
		client: http.Client{Timeout: answerWithin, Transport: &http.Transport{DialContext: lines.dial}},
		url:    fmt.Sprintf("http://%s/?units=%d", address, units), lines: lines,
	}
}

func (g *getter) open(context.Context) (conversation, error) { return g, nil }
func (*getter) end()                                         {}
func (g *getter) close()                                     { g.client.CloseIdleConnections() }

func (g *getter) ask(ctx context.Context) (string, error) {
	// A connection that was begun for an earlier question may be used for this one.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { g.lines.uses(i.Conn) }})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url, http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := g.client.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	pod, err := io.ReadAll(io.LimitReader(answer.Body, maxName))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the server answers %s", answer.Status)
	}
	return string(pod), err
}

// chatter sends messages over a WebSocket.
type chatter struct {
	client http.Client
	url    string
}

func newChatter(lines *lines, address string) *chatter {
	return &chatter{client: http.Client{Transport: &http.Transport{DialContext: lines.dial}}, url: "ws://" + address + "/chat"}
}

// openWithin is how long a client of a stream waits for the stream to open. An open one has no limit.
const openWithin = 10 * time.Second

func (c *chatter) open(ctx context.Context) (conversation, error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{HTTPClient: &c.client}) //nolint:bodyclose // it is the connection's
	if err != nil {
		return nil, err
	}
	return chat{conn}, nil
}

func (c *chatter) close() { c.client.CloseIdleConnections() }

type chat struct{ conn *websocket.Conn }

func (c chat) ask(ctx context.Context) (string, error) {
	if err := c.conn.Write(ctx, websocket.MessageText, []byte("who?")); err != nil {
		return "", err
	}
	_, pod, err := c.conn.Read(ctx)
	return string(pod), err
}

func (c chat) end() { _ = c.conn.CloseNow() }
