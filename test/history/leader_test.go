package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// elected and directed are what leaders do: a term begins, a directive of a term
// is accepted by etcd.
type (
	elected  struct{ term int64 }
	directed struct{ term int64 }
)

// oneLeader is what directives must look like to everybody: those of a term end
// before the next term begins.
func oneLeader() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(was, input, _ any) (bool, any) {
			term := was.(int64)
			switch op := input.(type) {
			case elected:
				return op.term > term, op.term
			case directed:
				return op.term == term, term
			}
			return false, was
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%T %+v", input, input) },
	}
}

const (
	candidates = 3
	// directedServer is whom they direct.
	directedServer = "rollcall-system/server-0"
)

// parliament is leaders who direct one server as fast as they can, and what etcd
// accepted of it.
type parliament struct {
	t    *testing.T
	zero time.Time

	mu      sync.Mutex
	leader  int // the last that was elected
	terms   int
	refused int
	ops     []porcupine.Operation
	begun   map[string]int64 // directives, by failover
}

func (p *parliament) now() int64 { return int64(time.Since(p.zero)) }

// rule campaigns and directs until the context ends.
func (p *parliament) rule(ctx context.Context, i int, s *store.Store) {
	for ctx.Err() == nil {
		call := p.now()
		l, err := s.Campaign(ctx, fmt.Sprint("candidate-", i))
		if err != nil {
			continue
		}
		p.mu.Lock()
		p.leader, p.terms = i, p.terms+1
		p.ops = append(p.ops, porcupine.Operation{ClientId: i, Input: elected{l.Term()}, Call: call, Return: p.now()})
		p.mu.Unlock()
		// It does not stop when it knows that it has lost: one that was asleep
		// would not know either.
		for n := 0; ctx.Err() == nil; n++ {
			failover := fmt.Sprintf("f/%d-%d", l.Term(), n)
			p.mu.Lock()
			p.begun[failover] = p.now()
			p.mu.Unlock()
			err := l.PutDirective(ctx, directedServer, store.Directive{Failover: failover})
			if errors.Is(err, store.ErrNotLeader) {
				p.mu.Lock()
				p.refused++
				p.mu.Unlock()
				break
			}
		}
		_ = l.Resign(ctx)
	}
}

// watch records the directives that etcd accepts.
func (p *parliament) watch(ctx context.Context, client *clientv3.Client) {
	for response := range client.Watch(ctx, "/rollcall/v1/directives/"+directedServer, clientv3.WithRev(1)) {
		for _, event := range response.Events {
			var d store.Directive
			if err := json.Unmarshal(event.Kv.Value, &d); err != nil {
				p.t.Errorf("the directive %s: %v", event.Kv.Value, err)
			}
			p.mu.Lock()
			p.ops = append(p.ops, porcupine.Operation{Input: directed{d.Term}, Call: p.begun[d.Failover], Return: p.now()})
			p.mu.Unlock()
		}
	}
}

func TestNoDirectiveOfADeposedLeaderIsAccepted(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for leaders' leases to end")
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 2<<32))
	etcd := storetest.Start(t)
	w := &world{t: t} // for eventually
	p := &parliament{t: t, zero: time.Now(), leader: -1, begun: map[string]int64{}}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	client := etcd.Client()
	all.Go(func() { p.watch(ctx, client) })
	var ways []*storetest.Proxy
	for i := range candidates {
		ways = append(ways, etcd.Proxy())
		s, err := store.Open(ctx, store.Config{Endpoints: ways[i].Endpoints(), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			p.rule(ctx, i, s)
			_ = s.Close() // the test has ended
		})
	}
	look := func() (leader, terms, refused int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.leader, p.terms, p.refused
	}
	const changes = 6
	for n := range changes {
		w.eventually("somebody leads", func() bool { leader, _, _ := look(); return leader >= 0 })
		leader, terms, _ := look()
		way := ways[leader]
		if random.IntN(3) == 0 {
			way.Cut()
		} else {
			way.Mute() // what it directs arrives, and it is not told so
		}
		t.Logf("change %d: candidate %d is cut off in term %d", n, leader, terms)
		w.eventually("another leads", func() bool { now, _, _ := look(); return now != leader })
		_, _, refused := look()
		way.Mend()
		w.eventually("the deposed one was refused", func() bool { _, _, now := look(); return now > refused })
	}
	cancel()
	all.Wait()
	directives := 0
	for _, op := range p.ops {
		if _, is := op.Input.(directed); is {
			directives++
		}
	}
	_, terms, refused := look()
	t.Logf("%d terms, %d directives accepted, %d leaders refused", terms, directives, refused)
	if directives < changes {
		t.Errorf("%d directives were accepted: nothing was shown", directives)
	}
	if result := porcupine.CheckOperationsTimeout(oneLeader(), p.ops, patience); result != porcupine.Ok {
		t.Errorf("the history of directives: %s", result)
	}
}
