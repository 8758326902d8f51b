package history

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/test/process"
)

var (
	seed = flag.Uint64("seed", 0, "of the faults and the clients; 0: another every time")
	long = flag.Duration("for", 0, "how long faults go on; 0: until each has happened once")
)

const (
	servers = 3
	members = 6
	// patience is how long anything may take on a busy machine.
	patience = 90 * time.Second
)

// world is etcd, servers with a way of their own to it, and clients.
type world struct {
	t       testing.TB
	etcd    *storetest.Server
	client  *clientv3.Client
	record  *recorder
	spawner *process.Spawner
	ways    []*storetest.Proxy
	unwatch func()

	mu    sync.Mutex
	lives []*life // the present one of each server
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, etcd: storetest.Start(t), spawner: process.NewSpawner()}
	t.Cleanup(w.spawner.Close)
	w.client = w.etcd.Client()
	w.record = newRecorder(t, w.client)
	w.watch(1)
	for i := range servers {
		w.ways = append(w.ways, w.etcd.Proxy())
		w.lives = append(w.lives, nil)
		w.revive(i)
	}
	return w
}

// watch follows etcd from a revision on, until unwatch.
func (w *world) watch(from int64) {
	ctx, cancel := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { w.record.watch(ctx, from) })
	both.Go(func() { w.record.sample(ctx) })
	w.unwatch = sync.OnceFunc(func() {
		cancel()
		both.Wait()
	})
	w.t.Cleanup(w.unwatch)
}

// revive starts a server's next life.
func (w *world) revive(i int) {
	l, err := w.start(w.ways[i].Endpoints()[0], fmt.Sprint("server-", i))
	if err != nil {
		w.t.Fatalf("start a server: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lives[i] = l
}

func (w *world) pick(r *rand.Rand) *life { return w.life(r.IntN(servers)) }

func (w *world) life(i int) *life {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lives[i]
}

// eventually waits until what must come to pass does.
func (w *world) eventually(what string, done func() bool, why ...func() []string) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-end:
			for _, f := range why {
				w.t.Log(strings.Join(f(), "\n"))
			}
			w.t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

// records are those that etcd holds, by client.
func (w *world) records(opts ...clientv3.OpOption) (map[string]store.Session, map[string]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	got, err := w.client.Get(ctx, sessionsRoot, append(opts, clientv3.WithPrefix())...)
	if err != nil {
		return nil, nil, err
	}
	sessions, revisions := map[string]store.Session{}, map[string]int64{}
	for _, kv := range got.Kvs {
		client := strings.TrimPrefix(string(kv.Key), sessionsRoot)
		var s store.Session
		if err := json.Unmarshal(kv.Value, &s); err != nil {
			return nil, nil, err
		}
		sessions[client], revisions[client] = s, kv.ModRevision
	}
	return sessions, revisions, nil
}

// isAt tells whether a client is recorded online at a server.
func (w *world) isAt(client string, l *life) bool {
	sessions, _, err := w.records()
	s := sessions[client]
	return err == nil && !s.Offline && s.Incarnation == w.record.incarnation(l.number)
}

// save makes a copy of etcd, all of whose records have been recorded.
func (w *world) save() storetest.Copy {
	c := w.etcd.Save()
	w.eventually("what was copied has been seen", func() bool {
		_, revisions, err := w.records(clientv3.WithRev(c.Revision))
		if err != nil {
			return false
		}
		w.record.mu.Lock()
		defer w.record.mu.Unlock()
		for client, revision := range revisions {
			if w.record.numbers[client][revision] == 0 {
				return false
			}
		}
		return true
	})
	return c
}

// unsettled are the clients that are not recorded where they are, and how.
func (w *world) unsettled(all []*member) []string {
	sessions, _, err := w.records()
	if err != nil {
		return []string{err.Error()}
	}
	var l []string
	last := map[string]*beat{}
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	for _, b := range w.record.beats {
		if b.back != 0 {
			last[b.Client] = b
		}
	}
	for _, m := range all {
		b, s := last[m.name], sessions[m.name]
		if b == nil || s.Offline || s.Incarnation != w.record.incarnation(b.Server) {
			l = append(l, fmt.Sprintf("%s: last answered %+v, recorded %+v", m.name, b, s))
		}
	}
	return l
}

// check looks for the order, and for what makes the history worth looking at.
func (w *world) check(all []*member) {
	w.t.Helper()
	ops := w.record.history()
	takeovers, offline, beats := 0, 0, len(w.record.beats)
	owner := map[int]int{}
	for _, p := range w.record.puts {
		owner[p.Number] = p.Server
		switch {
		case p.Offline:
			offline++
		case p.Base != 0 && owner[p.Base] != p.Server:
			takeovers++
		}
	}
	w.t.Logf("%d packets by %d clients, %d writes accepted, of which %d takeovers and %d offline, %d lives of servers",
		beats, len(all), len(w.record.puts), takeovers, offline, len(w.record.names))
	if takeovers < members {
		w.t.Errorf("there were %d takeovers: nothing was shown", takeovers)
	}
	for _, part := range byClient(ops) {
		result, info := porcupine.CheckOperationsVerbose(Model(), part, patience)
		if result == porcupine.Ok {
			continue
		}
		w.t.Errorf("the history of %s: %s", clientOf(part[0].Input), result)
		if dir := os.Getenv("ROLLCALL_TEST_KEEP"); dir != "" {
			path := fmt.Sprintf("%s/%s-%d.html", dir, clientOf(part[0].Input), *seed)
			w.t.Logf("drawn in %s: %v", path, porcupine.VisualizePath(Model(), info, path))
		}
	}
}
