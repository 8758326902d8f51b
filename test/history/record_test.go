package history

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// sessionsRoot is where etcd holds the clients of the Presence.
const sessionsRoot = "/rollcall/v1/sessions/" + presence + "/"

// unreadFor is how long a packet may lie unread at a server that is not stopped:
// its clock notices a longer time (session.GapAfter).
const unreadFor = time.Second

// recorder records what the clients send, and what etcd accepts.
type recorder struct {
	t      testing.TB
	zero   time.Time
	client *clientv3.Client

	mu    sync.Mutex
	names []string // of the servers, by life
	beats []*beat
	stops []stop
	ops   []porcupine.Operation
	puts  []*put
	// samples are readings of etcd's revision.
	samples []sample
	// era counts the restores; odd while one is under way.
	era int
	// numbers, by client and revision, of the records of the present history.
	numbers map[string]map[int64]int
	number  int
	reached int64 // by the watch
}

type beat struct {
	Beat
	call int64
	// back is when its answer came, or when the connection had ended; closed is
	// when the client closed it; 0: not yet.
	back, closed int64
}

// stop is a time during which a server was stopped.
type stop struct {
	server   int
	from, to int64 // to 0: it still is
}

type put struct {
	Put
	era      int
	revision int64
	seen     int64
}

type sample struct {
	era        int
	revision   int64
	call, back int64
}

func newRecorder(t testing.TB, client *clientv3.Client) *recorder {
	return &recorder{t: t, zero: time.Now(), client: client, numbers: map[string]map[int64]int{}}
}

func (r *recorder) now() int64 { return int64(time.Since(r.zero)) }

// born is the number of a new life of a server.
func (r *recorder) born(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, name)
	if len(r.names) > MaxServers {
		r.t.Errorf("there are more than %d lives of servers", MaxServers)
	}
	return len(r.names) - 1
}

func (r *recorder) incarnation(number int) string { return fmt.Sprintf("life.%d", number) }

func (r *recorder) sent(client string, server int) *beat {
	b := &beat{Beat: Beat{Client: client, Server: server}, call: r.now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beats = append(r.beats, b)
	return b
}

func (r *recorder) ended(at *int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*at = r.now()
}

// stopped and woken are called just after SIGSTOP and just before SIGCONT.
func (r *recorder) stopped(server int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stops = append(r.stops, stop{server: server, from: r.now()})
}

func (r *recorder) woken(server int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.stops {
		if s := &r.stops[i]; s.server == server && s.to == 0 {
			s.to = r.now()
		}
	}
}

// last is when a packet can have been read at the latest by its server.
func (r *recorder) last(b *beat, end int64) int64 {
	switch {
	case b.back != 0:
		return b.back
	case b.closed == 0:
		return end
	}
	last := b.closed + int64(unreadFor)
	for _, s := range r.stops {
		// What is read after a stop counts for nothing: it may be as old as that.
		if s.server == b.Server && (s.to == 0 || s.to > b.closed) {
			last = min(last, max(s.from, b.closed))
		}
	}
	return last
}

// sample reads etcd's revision until the context ends: what was written lies
// between two readings.
func (r *recorder) sample(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.mu.Lock()
		s := sample{era: r.era, call: r.now()}
		r.mu.Unlock()
		one, cancel := context.WithTimeout(ctx, time.Second)
		got, err := r.client.Get(one, "/nothing", clientv3.WithCountOnly())
		cancel()
		r.mu.Lock()
		if err == nil && s.era == r.era && s.era%2 == 0 {
			s.revision, s.back = got.Header.Revision, r.now()
			r.samples = append(r.samples, s)
		}
		r.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// watch records what is written from a revision on, until the context ends.
func (r *recorder) watch(ctx context.Context, from int64) {
	for ctx.Err() == nil {
		responses := r.client.Watch(clientv3.WithRequireLeader(ctx), sessionsRoot, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(from))
		for response := range responses {
			for _, event := range response.Events {
				r.saw(event)
				from = event.Kv.ModRevision + 1
			}
		}
	}
}

func (r *recorder) saw(event *clientv3.Event) {
	client, revision := strings.TrimPrefix(string(event.Kv.Key), sessionsRoot), event.Kv.ModRevision
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached = revision
	var session store.Session
	if event.Type == mvccpb.Event_DELETE {
		r.t.Errorf("the record of %s was deleted", client)
		return
	}
	if err := json.Unmarshal(event.Kv.Value, &session); err != nil {
		r.t.Errorf("the record of %s: %v", client, err)
		return
	}
	r.number++
	p := &put{Put: Put{Client: client, Number: r.number, Offline: session.Offline}, era: r.era, revision: revision, seen: r.now()}
	if _, err := fmt.Sscanf(session.Incarnation, "life.%d", &p.Server); err != nil {
		r.t.Errorf("the record of %s is by %q", client, session.Incarnation)
	}
	if event.PrevKv != nil {
		base, known := r.numbers[client][event.PrevKv.ModRevision]
		if !known {
			r.t.Errorf("the record of %s at %d replaces one of %d, which was never seen", client, revision, event.PrevKv.ModRevision)
		}
		p.Base = base
	}
	if r.numbers[client] == nil {
		r.numbers[client] = map[int64]int{}
	}
	r.numbers[client][revision] = p.Number
	r.puts = append(r.puts, p)
}

// restored records that etcd has lost all beyond a revision, from begin on.
func (r *recorder) restored(begin, revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for client, numbers := range r.numbers {
		back, last := Restore{Client: client}, int64(0)
		for at, number := range numbers {
			switch {
			case at > revision:
				delete(numbers, at)
			case at > last:
				last, back.To = at, number
			}
		}
		for _, p := range r.puts {
			if p.Number == back.To {
				back.Server, back.Offline = p.Server, p.Offline
			}
		}
		r.ops = append(r.ops, porcupine.Operation{Input: back, Call: begin, Return: r.now()})
	}
}

// restore does what makes etcd go back to a copy, and follows it from there.
func (w *world) restore(c storetest.Copy, do func()) {
	w.unwatch()
	w.record.turn()
	begin := w.record.now()
	do()
	w.record.restored(begin, c.Revision)
	w.record.turn()
	w.watch(c.Revision + 1)
}

func (r *recorder) turn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.era++
}

// history is all that was recorded, as operations.
func (r *recorder) history() []porcupine.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	end := r.now()
	all := slices.Clone(r.ops)
	for _, b := range r.beats {
		all = append(all, porcupine.Operation{ClientId: b.Server, Input: b.Beat, Call: b.call, Return: max(r.last(b, end), b.call)})
	}
	for _, p := range r.puts {
		op := porcupine.Operation{ClientId: p.Server, Input: p.Put, Return: p.seen}
		for _, s := range r.samples {
			switch {
			case s.era < p.era, s.era == p.era && s.revision < p.revision:
				op.Call = max(op.Call, s.call)
			case s.era == p.era:
				op.Return = min(op.Return, s.back)
			}
		}
		all = append(all, op)
	}
	return all
}
