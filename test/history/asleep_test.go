package history

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
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

const (
	leaderChild = "leader "
	// pace is how often a leader directs: many times within a term.
	pace = 5 * time.Millisecond
)

// govern is a candidate in a process of its own until its parent is gone. It
// prints each of its terms when it begins, and when etcd has refused it. It does
// not look whether it still leads: one that was asleep would not know either.
func govern(what string) error {
	fields := strings.Fields(what)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	s, err := store.Open(ctx, store.Config{Endpoints: fields[1:2], Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		l, err := s.Campaign(ctx, fields[2])
		if err != nil {
			continue
		}
		fmt.Println("elected", l.Term())
		for n := 0; !errors.Is(err, store.ErrNotLeader) && ctx.Err() == nil; n++ {
			<-tick.C
			err = l.PutDirective(ctx, directedServer, store.Directive{Failover: fmt.Sprintf("f/%d-%d", l.Term(), n)})
		}
		fmt.Println("refused", l.Term())
		_ = l.Resign(ctx)
	}
	return nil
}

// chronicle is what etcd did, in the order of its revisions: nobody's clock is asked.
type chronicle struct {
	stands map[string]int64 // election keys, and when each was created
	leads  int64
	ops    []porcupine.Operation
}

func (c *chronicle) note(t *testing.T, e *clientv3.Event) {
	const election, directive = "/rollcall/v1/election/", "/rollcall/v1/directives/"
	at := int64(len(c.ops))
	add := func(input any) {
		c.ops = append(c.ops, porcupine.Operation{Input: input, Call: 2 * at, Return: 2*at + 1})
	}
	switch key := string(e.Kv.Key); {
	case strings.HasPrefix(key, election):
		delete(c.stands, key)
		if e.Type == clientv3.EventTypePut {
			c.stands[key] = e.Kv.CreateRevision
		}
		first := int64(0) // who stood first leads
		for _, created := range c.stands {
			if first == 0 || created < first {
				first = created
			}
		}
		if first != 0 && first != c.leads {
			c.leads = first
			add(elected{first})
		}
	case strings.HasPrefix(key, directive) && e.Type == clientv3.EventTypePut:
		var d store.Directive
		if err := json.Unmarshal(e.Kv.Value, &d); err != nil {
			t.Errorf("the directive %s: %v", e.Kv.Value, err)
		}
		add(directed{d.Term})
	}
}

// said is what the candidates have printed.
type said struct {
	mu      sync.Mutex
	leader  int // who was elected last; -1: nobody yet
	refused map[int64]bool
	term    int64
}

func (s *said) listen(i int, from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var what string
		var term int64
		if _, err := fmt.Sscan(lines.Text(), &what, &term); err != nil {
			continue
		}
		s.mu.Lock()
		if what == "refused" {
			s.refused[term] = true
		} else if term > s.term {
			s.leader, s.term = i, term
		}
		s.mu.Unlock()
	}
}

func (s *said) now() (leader int, term int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader, s.term
}

func TestALeaderThatWasAsleepDirectsNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for leaders' leases to end")
	}
	etcd := storetest.Start(t)
	spawner := process.NewSpawner()
	t.Cleanup(spawner.Close)
	heard := &said{leader: -1, refused: map[int64]bool{}}
	var parliament []*process.Process
	var listening sync.WaitGroup
	for i := range candidates {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s%s candidate-%d", childVariable, leaderChild, etcd.Endpoints()[0], i))
		cmd.Stderr = os.Stderr
		if _, err := cmd.StdinPipe(); err != nil { // it ends when this process does
			t.Fatal(err)
		}
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout = write
		p, err := spawner.Start(cmd)
		write.Close()
		if err != nil {
			t.Fatal(err)
		}
		parliament = append(parliament, p)
		listening.Go(func() { heard.listen(i, read); read.Close() })
	}

	w := &world{t: t} // for eventually
	const changes = 4
	for n := range changes {
		w.eventually("somebody leads", func() bool { leader, _ := heard.now(); return leader >= 0 })
		leader, term := heard.now()
		if err := parliament[leader].Pause(); err != nil {
			t.Fatal(err)
		}
		t.Logf("change %d: candidate %d is stopped in term %d", n, leader, term)
		w.eventually("another leads", func() bool { now, _ := heard.now(); return now != leader })
		if err := parliament[leader].Resume(); err != nil {
			t.Fatal(err)
		}
		w.eventually("who was asleep is refused", func() bool {
			heard.mu.Lock()
			defer heard.mu.Unlock()
			return heard.refused[term]
		})
	}
	spawner.Close()
	listening.Wait()

	end, err := etcd.Client().Get(t.Context(), "/rollcall/v1/nothing")
	if err != nil {
		t.Fatal(err)
	}
	c := &chronicle{stands: map[string]int64{}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	directives := 0
	for response := range etcd.Client().Watch(ctx, "/rollcall/v1/", clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithProgressNotify()) {
		if err := response.Err(); err != nil {
			t.Fatal(err)
		}
		for _, e := range response.Events {
			c.note(t, e)
		}
		if response.Header.Revision >= end.Header.Revision {
			break
		}
	}
	terms := 0
	for _, op := range c.ops {
		if _, is := op.Input.(directed); is {
			directives++
		} else {
			terms++
		}
	}
	t.Logf("%d terms, %d directives accepted", terms, directives)
	if terms <= changes || directives < changes {
		t.Errorf("%d terms and %d directives: nothing was shown", terms, directives)
	}
	if !porcupine.CheckOperations(oneLeader(), c.ops) {
		t.Error("a directive was accepted of a leader that was none any more")
	}
}
