package record

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// world is etcd, some servers and some clients, in which everything that can
// take long does: answers, watches, packets, whole processes. Time is the order
// of things.
type world struct {
	*rapid.T
	rev     int64
	records map[string]found
	events  []store.KeyedSession
	authors map[int64]string // incarnations, by revision
	hosts   []*host
	clients []*client
	unsent  []func() // writes whose answer was lost, and which may yet be applied
	depth   int      // of things that happen while an answer is awaited
	calm    bool     // nothing fails any more
}

type found struct {
	store.Session
	rev int64
}

// client is connected to one server at a time, as it sees it.
type client struct {
	name string
	conn *conn
}

// conn is a connection; what was sent and not read yet is in queue.
type conn struct {
	client  *client
	host    *host
	queue   []string
	emptied uint32 // gaps of the host when it was last found empty, plus 1
	arrival uint64 // of the session that it has; 0: none yet
}

// host is a server: its Recorder, and what stands for its table.
type host struct {
	w        *world
	name     string
	r        *Recorder
	known    int64
	told     int // events that its watch has told
	gaps     uint32
	stopped  bool
	conns    []*conn
	sessions map[string]*hosted
	arrivals uint64
	// proof is the highest revision known at a trusted packet since the last gap.
	proof map[string]int64
}

type hosted struct {
	arrival uint64
	proof   int64 // of its CONNECT
	conn    *conn
	attend  bool
}

func key(name string) store.SessionKey {
	return store.SessionKey{Namespace: "im", Presence: "phone", Client: name}
}

func newWorld(t *rapid.T) *world {
	w := &world{T: t, rev: 10, records: map[string]found{}, authors: map[int64]string{}}
	for i := range rapid.IntRange(2, 3).Draw(t, "hosts") {
		h := &host{w: w, name: fmt.Sprint("server-", i), known: w.rev, sessions: map[string]*hosted{}, proof: map[string]int64{}}
		r, err := New(Config{
			Server: "ns/" + h.name, Incarnation: h.name + ".1", Store: h, Gaps: func() uint32 { return h.gaps },
			Attend: func(k store.SessionKey, on bool) {
				if s := h.sessions[k.Client]; s != nil {
					s.attend = on
				}
			},
			Lost: func(k store.SessionKey, arrival uint64, _ Loss) {
				if s := h.sessions[k.Client]; s != nil && s.arrival == arrival {
					if latest := w.records[k.Client].rev; latest > 0 && s.proof >= latest {
						t.Fatalf("%s gave up %s, which came with a proof for %d, to revision %d", h.name, k.Client, s.proof, latest)
					}
					delete(h.sessions, k.Client)
				}
			},
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		h.r = r
		w.hosts = append(w.hosts, h)
	}
	for i := range rapid.IntRange(1, 2).Draw(t, "clients") {
		w.clients = append(w.clients, &client{name: fmt.Sprint("c", i)})
	}
	return w
}

// change is a write that etcd has accepted.
func (w *world) change(name string, s *store.Session) {
	w.rev++
	e := store.KeyedSession{Key: key(name), Revision: w.rev}
	if s == nil {
		delete(w.records, name)
	} else {
		c := *s
		w.authors[w.rev] = c.Incarnation
		w.records[name] = found{c, w.rev}
		e.Session = &c
	}
	w.events = append(w.events, e)
}

// apply does one write, as etcd does it, and checks that it may be.
func (h *host) apply(sw store.SessionWrite) store.SessionResult {
	w, name := h.w, sw.Key.Client
	now, there := w.records[name]
	if now.rev != sw.Revision {
		if !there {
			return store.SessionResult{AsOf: w.rev}
		}
		c := now.Session
		return store.SessionResult{Revision: now.rev, AsOf: w.rev, Current: &c}
	}
	if sw.Session.Offline && (!there || now.Incarnation != h.r.cfg.Incarnation || now.Offline) {
		w.Fatalf("%s wrote %s offline over %+v, which is not its own", h.name, name, now)
	}
	w.change(name, &sw.Session)
	return store.SessionResult{Won: true, Revision: w.rev, AsOf: w.rev}
}

func (h *host) WriteSessions(_ context.Context, writes []store.SessionWrite) ([]store.SessionResult, error) {
	w := h.w
	for _, sw := range writes {
		own := w.authors[sw.Revision] == h.r.cfg.Incarnation
		if need := max(1, sw.Revision); !sw.Session.Offline && h.proof[sw.Key.Client] < need && !own {
			w.Fatalf("%s writes %s online over revision %d, with a proof for %d only", h.name, sw.Key.Client, sw.Revision, h.proof[sw.Key.Client])
		}
		if !sw.Session.Offline && h.proof[sw.Key.Client] == 0 {
			w.Fatalf("%s writes %s online without a packet since it was stopped", h.name, sw.Key.Client)
		}
	}
	w.meanwhile()
	outcome := "answered"
	if !w.calm {
		outcome = rapid.SampledFrom([]string{"answered", "answered", "answered", "refused", "lost", "lost before", "late"}).Draw(w.T, "outcome")
	}
	var results []store.SessionResult
	apply := func() {
		for _, sw := range writes {
			results = append(results, h.apply(sw))
		}
	}
	switch outcome {
	case "refused":
		return nil, errors.New("no connection")
	case "lost":
		apply()
		return nil, store.ErrUnknownOutcome
	case "late":
		w.unsent = append(w.unsent, apply)
		return nil, store.ErrUnknownOutcome
	case "lost before":
		return nil, store.ErrUnknownOutcome
	}
	apply()
	answered := w.rev
	w.meanwhile()
	h.known = max(h.known, answered)
	return results, nil
}

func (h *host) ReadSessions(_ context.Context, keys []store.SessionKey) ([]store.SessionResult, error) {
	h.w.meanwhile()
	results := make([]store.SessionResult, len(keys))
	asOf := h.w.rev
	for i, k := range keys {
		results[i] = store.SessionResult{AsOf: asOf}
		if r, ok := h.w.records[k.Client]; ok {
			c := r.Session
			results[i].Revision, results[i].Current = r.rev, &c
		}
	}
	h.w.meanwhile()
	h.known = max(h.known, asOf)
	return results, nil
}

func (h *host) Revision() int64                       { return h.known }
func (h *host) Rewinds() uint32                       { return 0 }
func (h *host) Sync(context.Context) (int64, error)   { return h.w.rev, nil }
func (h *host) Away(time.Time) time.Duration          { return 0 }
func (h *host) RequestProgress(context.Context) error { return nil }
func (h *host) NewBucket(context.Context, string, string) (store.Bucket, error) {
	return store.Bucket{ID: 1}, nil
}
func (h *host) SessionsOf(_ context.Context, _, incarnation string) iter.Seq2[store.KeyedSession, error] {
	return func(yield func(store.KeyedSession, error) bool) {
		for _, c := range h.w.clients {
			r, ok := h.w.records[c.name]
			if ok && !r.Offline && r.Incarnation == incarnation && !yield(store.KeyedSession{Key: key(c.name), Session: &r.Session, Revision: r.rev}, nil) {
				return
			}
		}
	}
}
func (h *host) WatchSessions(context.Context, int64) (<-chan store.SessionEvents, error) {
	return nil, errors.New("the world tells the watch itself")
}

// meanwhile lets things happen while a host awaits an answer.
func (w *world) meanwhile() {
	if w.calm || w.depth > 1 {
		return
	}
	w.depth++
	defer func() { w.depth-- }()
	for range rapid.IntRange(0, 2).Draw(w.T, "meanwhile") {
		w.happen(rapid.SampledFrom(happenings).Draw(w.T, "what"))
	}
}

var happenings = []string{"connect", "connect", "ping", "ping", "leave", "read", "read", "read", "learn", "watch", "watch", "expire", "stop", "wake", "wake", "late", "doubt", "vanish", "work", "work"}

func (w *world) host() *host { return w.hosts[rapid.IntRange(0, len(w.hosts)-1).Draw(w.T, "host")] }

func (w *world) happen(what string) {
	h := w.host()
	c := w.clients[rapid.IntRange(0, len(w.clients)-1).Draw(w.T, "client")]
	switch what {
	case "connect":
		c.connect(h)
	case "ping":
		c.send("ping")
	case "leave":
		c.send("leave")
		c.conn = nil
	case "read":
		h.read()
	case "learn":
		if !h.stopped {
			h.known = rapid.Int64Range(h.known, w.rev).Draw(w.T, "known")
		}
	case "watch":
		h.watch(rapid.IntRange(1, 5).Draw(w.T, "events"))
	case "expire":
		h.expire()
	case "stop":
		h.stopped = true
	case "wake":
		h.wake()
	case "late":
		if len(w.unsent) > 0 {
			w.unsent[0]()
			w.unsent = w.unsent[1:]
		}
	case "doubt": // the watch lost its history
		if !h.stopped {
			h.told, h.known = len(w.events), w.rev
			h.r.verify(w.Context(), 0)
		}
	case "work":
		h.work()
	case "vanish": // a bucket's lease has ended
		if _, ok := w.records[c.name]; ok {
			w.change(c.name, nil)
		}
	}
}

func (c *client) connect(h *host) {
	c.conn = &conn{client: c, host: h, queue: []string{"connect"}}
	if h.gaps == 0 {
		c.conn.emptied = 1
	}
	h.conns = append(h.conns, c.conn)
}

func (c *client) send(what string) {
	if c.conn != nil {
		c.conn.queue = append(c.conn.queue, what)
	}
}

// read reads what connections have brought, and then finds them empty.
func (h *host) read() {
	if h.stopped {
		return
	}
	for _, c := range h.conns {
		for _, what := range c.queue {
			h.packet(c, what)
		}
		c.queue, c.emptied = nil, h.gaps+1
	}
	// The end of a connection shows once everything was read.
	open := h.conns[:0]
	for _, c := range h.conns {
		if c.client.conn == c {
			open = append(open, c)
		} else if s := h.sessions[c.client.name]; s != nil && s.conn == c {
			s.conn = nil
		}
	}
	h.conns = open
}

func (h *host) packet(c *conn, what string) {
	name := c.client.name
	proof := int64(0)
	if c.emptied == h.gaps+1 {
		proof = h.known
		h.proof[name] = max(h.proof[name], proof)
	}
	s := h.sessions[name]
	switch {
	case what == "connect":
		h.arrivals++
		c.arrival = h.arrivals
		h.sessions[name] = &hosted{arrival: c.arrival, proof: proof, conn: c}
		h.r.Online(Arrival{
			Key: key(name), Number: c.arrival, Proof: proof, Gaps: h.gaps,
			Session: store.Session{Principal: "p", Interval: int64(1000 * (1 + c.arrival%2))},
		})
	case s == nil || s.conn != c: // the session is gone, or another connection's
	case what == "leave":
		delete(h.sessions, name)
		h.r.Offline(key(name), s.arrival, time.Now(), time.Now())
	case s.attend:
		h.r.Packet(key(name), proof, h.gaps)
	}
}

// expire ends sessions whose client has gone elsewhere.
func (h *host) expire() {
	if h.stopped {
		return
	}
	for _, c := range h.w.clients {
		if s := h.sessions[c.name]; s != nil && (s.conn == nil || s.conn != c.conn) {
			delete(h.sessions, c.name)
			h.r.Offline(key(c.name), s.arrival, time.Now(), time.Now())
		}
	}
}

func (h *host) watch(n int) {
	if h.stopped {
		return
	}
	for ; n > 0 && h.told < len(h.w.events); n-- {
		e := h.w.events[h.told]
		h.told++
		h.known = max(h.known, e.Revision)
		h.r.changed(e)
	}
}

func (h *host) wake() {
	if h.stopped {
		h.stopped = false
		h.gaps++
		h.proof = map[string]int64{}
	}
}

// work is what a host's own goroutines do.
func (h *host) work() {
	if h.stopped {
		return
	}
	h.r.mu.Lock()
	h.r.noteGaps()
	gaps, held := h.r.gaps, h.r.held
	h.r.mu.Unlock()
	if held && h.told == len(h.w.events) {
		h.r.release(gaps)
	}
	_, _ = h.r.flush(context.Background())
}

// settle lets everything come to rest, and checks that etcd says what is.
func (w *world) settle() {
	w.calm = true
	for _, c := range w.clients {
		if c.conn == nil && rapid.Bool().Draw(w.T, "comes back") {
			c.connect(w.host())
		}
	}
	for range 12 {
		for _, late := range w.unsent {
			late()
		}
		w.unsent = nil
		for _, h := range w.hosts {
			h.wake()
			h.read()
			h.expire()
			h.watch(len(w.events))
			h.work()
			for _, c := range w.clients {
				if c.conn != nil && c.conn.host == h && c.conn.arrival != 0 {
					if s := h.sessions[c.name]; s == nil || s.conn != c.conn {
						c.connect(h) // it was closed, and the client comes back
					}
				}
				c.send("ping")
			}
		}
	}
	for _, c := range w.clients {
		r, there := w.records[c.name]
		here := there && !r.Offline
		switch {
		case c.conn == nil && here:
			w.Fatalf("%s has left, and is recorded as %+v", c.name, r)
		case c.conn != nil && (!here || r.Incarnation != c.conn.host.r.cfg.Incarnation):
			w.Fatalf("%s is at %s, and recorded as %+v", c.name, c.conn.host.name, r)
		case here && !same(r.Session, recorded(c.conn.host.r, c.name)):
			w.Fatalf("%s is recorded as %+v, which is not what it said", c.name, r)
		}
		for _, h := range w.hosts {
			at := c.conn != nil && c.conn.host == h
			if e := h.r.entries.get(key(c.name)); (e != nil) != at || e != nil && e.next() != idle {
				w.Fatalf("%s holds %+v of %s, which is there: %v", h.name, e, c.name, at)
			}
			if s := h.sessions[c.name]; s != nil && s.attend {
				w.Fatalf("%s still attends to %s", h.name, c.name)
			}
		}
	}
	rev := w.rev
	for _, h := range w.hosts {
		h.work()
	}
	if w.rev != rev {
		w.Fatalf("at rest, something was written")
	}
}

// What breaks this takes many things at once: hence more than rapid's hundred.
func TestRecordsSayWhereClientsAre(t *testing.T) {
	for range 20 {
		rapid.Check(t, func(t *rapid.T) {
			w := newWorld(t)
			for range rapid.IntRange(1, 60).Draw(t, "steps") {
				if rapid.IntRange(0, 2).Draw(t, "work") == 0 {
					w.host().work()
				} else {
					w.happen(rapid.SampledFrom(happenings).Draw(t, "what"))
				}
			}
			w.settle()
		})
	}
}

// recorded is what a Recorder would record of a client that is here.
func recorded(r *Recorder, name string) store.Session { return r.session(r.entries.get(key(name))) }
