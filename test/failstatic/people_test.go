package failstatic

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/crowd"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/test/installation"
)

const (
	// Steady clients stay, and beat often; patient ones beat so rarely that they
	// notice nothing of what goes on in between.
	steady, patient = "steady", "patient"
	// Passers come, stay for a moment, and leave.
	passer = "passer"

	steadyCount, patientCount, passerCount = 60, 15, 10
	steadyInterval, passerInterval         = 5 * time.Second, 2 * time.Second
	// answerWithin is long, so that clients do not leave because the machine is busy.
	answerWithin = 4 * time.Second
)

// people are all clients, and what they and etcd say of where they are.
type people struct {
	t     testing.TB
	base  crowd.Config
	group sync.WaitGroup
	// noMore ends the coming and going.
	noMore context.CancelFunc

	mu sync.Mutex
	// at is the server of each client that stays, moves where they went since the
	// last check, came is who ever came.
	at    map[string]string
	moves []crowd.Line
	// recorded is the latest of each client, offline who of those who stay was
	// ever declared so.
	recorded map[string]store.Session
	offline  []string
	passed   map[string]bool // passers that came at least once
}

func newPeople(ctx context.Context, t testing.TB, w *installation.Installation, patience time.Duration) *people {
	token, err := os.ReadFile(w.TokenFile())
	if err != nil {
		t.Fatal(err)
	}
	p := &people{
		t: t, at: map[string]string{}, recorded: map[string]store.Session{}, passed: map[string]bool{},
		base: crowd.Config{
			Servers: w.Addresses(), Presence: installation.AppNamespace + "/" + installation.AppPresence,
			Password: strings.TrimSpace(string(token)), AckTimeout: answerWithin,
		},
	}
	events, err := w.Store.WatchSessions(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.group.Go(func() { p.read(events) })
	p.group.Go(func() { p.stay(ctx, steady, steadyCount, steadyInterval) })
	p.group.Go(func() { p.stay(ctx, patient, patientCount, patience) })
	passing, noMore := context.WithCancel(ctx)
	p.noMore = noMore
	p.group.Go(func() { p.pass(passing) })
	return p
}

// stay is a crowd that stays until the context ends.
func (p *people) stay(ctx context.Context, prefix string, count int, interval time.Duration) {
	c := p.base
	c.Prefix, c.Count, c.Interval, c.OnLine = prefix, count, interval, p.moved
	p.run(ctx, c)
}

// pass has crowds come and go: the same clients again and again.
func (p *people) pass(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		stay, leave := context.WithTimeout(ctx, 3*time.Second)
		c := p.base
		c.Prefix, c.Count, c.Interval, c.OnLine = fmt.Sprintf("%s-%d", passer, n%5), passerCount, passerInterval, p.came
		p.run(stay, c)
		leave()
	}
}

func (p *people) run(ctx context.Context, cfg crowd.Config) {
	c, err := crowd.New(cfg)
	if err == nil {
		err = c.Run(ctx)
	}
	if err != nil {
		p.t.Errorf("the crowd %s: %v", cfg.Prefix, err)
	}
}

func (p *people) moved(l crowd.Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch l.Kind {
	case client.Moved:
		p.moves = append(p.moves, l)
		fallthrough
	case client.Connected:
		p.at[l.Client] = l.To
	}
}

func (p *people) came(l crowd.Line) {
	if l.Kind == client.Connected || l.Kind == client.Moved {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.passed[l.Client] = true
	}
}

// read follows what etcd holds.
func (p *people) read(events <-chan store.SessionEvents) {
	for e := range events {
		p.mu.Lock()
		if e.Gap {
			p.t.Error("changes of sessions were missed: who went offline is not known")
		}
		for _, c := range e.Changes {
			if c.Key.Namespace != installation.AppNamespace || c.Session == nil {
				continue
			}
			p.recorded[c.Key.Client] = *c.Session
			if c.Session.Offline && !strings.HasPrefix(c.Key.Client, passer) {
				p.offline = append(p.offline, fmt.Sprintf("%s: %+v", c.Key.Client, *c.Session))
			}
		}
		p.mu.Unlock()
	}
}

// present tells whether all who stay are connected, and recorded where they are.
func (p *people) present() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.at {
		if r := p.recorded[client]; r.Offline || r.Server != server {
			return false
		}
	}
	return len(p.at) == steadyCount+patientCount
}

// absent are those who stay and are not recorded where they are.
func (p *people) absent() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var l []string
	for client, server := range p.at {
		if r := p.recorded[client]; r.Offline || r.Server != server {
			l = append(l, fmt.Sprintf("%s is at %s, and recorded as %+v", client, server, r))
		}
	}
	return l
}

// on is how many of those who stay are on a server.
func (p *people) on(server string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, s := range p.at {
		if s == server {
			n++
		}
	}
	return n
}

// judge checks what has happened since the last time: those may have moved who
// were on a server of these, and come back to it.
func (p *people) judge(row string, servers ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.offline) > 0 {
		p.t.Errorf("%s: %d clients were declared offline that were not: %s", row, len(p.offline), strings.Join(p.offline[:min(5, len(p.offline))], "; "))
	}
	wrong := 0
	for _, l := range p.moves {
		if !slices.Contains(servers, l.From) && !slices.Contains(servers, l.To) {
			wrong++
			if wrong <= 5 {
				p.t.Errorf("%s: %s moved from %s to %s (%s %s)", row, l.Client, l.From, l.To, l.Reason, l.Error)
			}
		}
	}
	p.t.Logf("%s: %d clients moved, %d of them should not have, %d falsely offline", row, len(p.moves), wrong, len(p.offline))
	p.moves, p.offline = nil, nil
}

// left tells whether all passers are recorded as gone.
func (p *people) left() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client := range p.passed {
		if r, known := p.recorded[client]; known && !r.Offline {
			return false
		}
	}
	return len(p.passed) > 0
}
