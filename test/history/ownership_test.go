package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// nemesis is what goes wrong, in an order that the seed says.
type nemesis struct {
	w     *world
	rand  *rand.Rand
	saved *storetest.Copy
	// lost counts how often etcd lost history.
	lost int
}

// faults each begin with their call, and end with what it returns. They are of
// one server, or of etcd.
var faults = []struct {
	name  string
	begin func(n *nemesis, server int) (end func())
}{
	{"stop", (*nemesis).stop},
	{"cut", func(n *nemesis, server int) func() {
		n.w.ways[server].Cut()
		return n.w.ways[server].Mend
	}},
	// Its writes arrive, and their answers don't.
	{"mute", func(n *nemesis, server int) func() {
		n.w.ways[server].Mute()
		return n.w.ways[server].Mend
	}},
	// The same, of a server that is stopped before it finds out.
	{"mute and stop", func(n *nemesis, server int) func() {
		n.w.ways[server].Mute()
		n.while(200*time.Millisecond, 200*time.Millisecond)
		wake := n.stop(server)
		return func() { n.w.ways[server].Mend(); wake() }
	}},
	{"kill", func(n *nemesis, server int) func() {
		l := n.w.life(server)
		l.process.Kill()
		return func() { n.w.revive(server) }
	}},
	{"etcd away", func(n *nemesis, _ int) func() {
		n.w.etcd.Stop()
		return n.w.etcd.Restart
	}},
	{"etcd away, a server stopped", func(n *nemesis, server int) func() {
		n.w.etcd.Stop()
		wake := n.stop(server)
		return func() { n.w.etcd.Restart(); wake() }
	}},
	{"etcd restored", func(n *nemesis, _ int) func() { n.restore(); return func() {} }},
	{"etcd restored, a server stopped", func(n *nemesis, server int) func() {
		wake := n.stop(server)
		n.restore()
		return wake
	}},
	{"etcd restored, a server cut off", func(n *nemesis, server int) func() {
		n.w.ways[server].Cut()
		n.restore()
		return n.w.ways[server].Mend
	}},
	{"etcd wiped", func(n *nemesis, _ int) func() {
		n.lost++
		n.w.restore(storetest.Copy{}, n.w.etcd.Wipe)
		n.saved = nil
		return func() {}
	}},
}

func (n *nemesis) stop(server int) (wake func()) {
	l := n.w.life(server)
	if err := l.process.Pause(); err != nil {
		n.w.t.Errorf("stop a server: %v", err)
	}
	n.w.eventually("the server is stopped", func() bool { return stoppedProcess(l.process.PID()) })
	n.w.record.stopped(l.number)
	return func() {
		n.w.record.woken(l.number)
		if err := l.process.Resume(); err != nil {
			n.w.t.Errorf("wake a server: %v", err)
		}
	}
}

// stoppedProcess tells whether every thread of a process is stopped.
func stoppedProcess(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		raw, err := os.ReadFile(path)
		_, rest, _ := strings.Cut(string(raw), ") ")
		if err != nil || !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return len(threads) > 0
}

func (n *nemesis) restore() {
	n.lost++
	if n.saved == nil {
		n.w.restore(storetest.Copy{}, n.w.etcd.Wipe)
		return
	}
	n.w.restore(*n.saved, func() { n.w.etcd.Restore(*n.saved) })
}

// while takes a random time between two.
func (n *nemesis) while(least, most time.Duration) {
	pause(n.w.t.Context(), least+time.Duration(n.rand.Int64N(int64(most-least)+1)))
}

// rage does every fault once, in a random order, and goes on until the end.
func (n *nemesis) rage(end time.Time) {
	for first := true; first || time.Now().Before(end); first = false {
		for _, i := range n.rand.Perm(len(faults)) {
			if n.saved == nil || n.rand.IntN(5) == 0 {
				c := n.w.save()
				n.saved = &c
				n.while(200*time.Millisecond, time.Second)
			}
			server := n.rand.IntN(servers)
			if faults[i].name == "kill" && n.w.life(server).number >= MaxServers-servers {
				continue
			}
			n.w.t.Logf("%6.2fs %s (server %d)", float64(n.w.record.now())/1e9, faults[i].name, server)
			mend := faults[i].begin(n, server)
			n.while(1500*time.Millisecond, 3500*time.Millisecond)
			mend()
			n.while(300*time.Millisecond, time.Second)
			if n.w.t.Failed() || !first && time.Now().After(end) {
				return
			}
		}
	}
}

// The servers' processes are stopped, killed, cut off from etcd, and not
// answered; etcd is stopped, restored and wiped. Clients go from server to
// server all the while, and leave packets behind them.
func TestNoServerWritesOverASessionThatIsNotItsOwn(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute of faults, in several processes")
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d -for %v", *seed, *long)
	w := newWorld(t)
	raging, calm := context.WithCancel(context.Background())
	done, leave := context.WithCancel(context.Background())
	var all []*member
	var gone sync.WaitGroup
	defer gone.Wait()
	defer leave()
	defer calm()
	for i := range members {
		m := &member{w: w, name: fmt.Sprint("member-", i), rand: rand.New(rand.NewPCG(*seed, uint64(i)))}
		all = append(all, m)
		gone.Go(func() { m.run(raging, done) })
	}
	n := &nemesis{w: w, rand: rand.New(rand.NewPCG(*seed, 1<<32))}
	n.rage(time.Now().Add(*long))
	calm()
	unsettled := func() []string { return w.unsettled(all) }
	w.eventually("every client is recorded where it is", func() bool { return len(unsettled()) == 0 }, unsettled)
	leave()
	gone.Wait()
	w.unwatch()
	w.check(all)
	for i := range servers {
		rewinds, err := w.life(i).metric("rollcall_store_rewinds_total")
		if err != nil {
			t.Fatal(err)
		}
		gaps, err := w.life(i).metric("rollcall_recorder_gaps_total")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("server %d: %v rewinds, %v gaps", i, rewinds, gaps)
		if rewinds == 0 && w.life(i).number < servers && n.lost > 0 {
			t.Errorf("etcd has lost history %d times, and server %d knows of none", n.lost, i)
		}
	}
}
