package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

func TestTokensNameTheirPrincipal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("# who may come\nt0p agent connect,report\n\nsecret app connect # one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	closed, err := NewAuthenticator(file, false)
	if err != nil {
		t.Fatal(err)
	}
	open, err := NewAuthenticator(file, true)
	if err != nil {
		t.Fatal(err)
	}
	anyone, err := NewAuthenticator("", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		a        *Tokens
		password string
		want     Principal // no name: refused
	}{
		{"a token", closed, "t0p", Principal{Name: "agent", Rights: Connect | Report}},
		{"another", closed, "secret", Principal{Name: "app", Rights: Connect}},
		{"a wrong one", closed, "t0", Principal{}},
		{"none", closed, "", Principal{}},
		{"none, where that is let in", open, "", Principal{Name: "anonymous", Rights: Connect}},
		{"a wrong one, where none is let in", open, "t0", Principal{}},
		{"a token, where none is let in", open, "t0p", Principal{Name: "agent", Rights: Connect | Report}},
		{"anything, where there are no tokens", anyone, "x", Principal{Name: "anonymous", Rights: Connect}},
	} {
		got, err := c.a.Authenticate(context.Background(), Credentials{Password: []byte(c.password)})
		if got != c.want || (err != nil) != (c.want.Name == "") || err != nil && !errors.Is(err, ErrCredentials) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

// What is late leaves together, in order, and not each after the one before it.
func TestWhatIsHeldLeavesAfterOneDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := delayLine{faults: NewFaults(), wake: make(chan struct{}, 1)}
		begun := time.Now()
		if line.hold(nil, []byte{0}, begun, false) {
			t.Error("it is held without a delay")
		}
		line.faults.SetAnswerDelay(time.Second)
		var sent []byte
		go func() {
			_ = line.run(t.Context(), func(l late) {
				if took := time.Since(begun); took != time.Second {
					t.Errorf("%d left after %v", l.b[0], took)
				}
				sent = append(sent, l.b...)
			})
		}()
		for i := range 5 {
			line.hold(nil, []byte{byte(i)}, begun, false)
		}
		line.faults.SetAnswerDelay(0) // what comes later does not overtake
		if !line.hold(nil, []byte{5}, begun, false) {
			t.Error("the last has overtaken the others")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if string(sent) != "\x00\x01\x02\x03\x04\x05" {
			t.Errorf("sent % x", sent)
		}
	})
}

func TestABadTokenFileIsRefusedWithItsLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a b", ":1: a line is TOKEN PRINCIPAL RIGHTS"},
		{"a b connect\nc d fly", `:2: "fly" is not a right`},
		{"# nothing", "no tokens"},
	} {
		file := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewAuthenticator(file, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
	if _, err := NewAuthenticator("", false); err == nil {
		t.Error("nobody could connect, and nobody was told")
	}
}

func TestPresencesBoundTheLease(t *testing.T) {
	spec := v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{
		Interval: v1alpha1.IntervalBounds{
			Min: metav1.Duration{Duration: 30 * time.Second}, Max: metav1.Duration{Duration: 10 * time.Minute},
		},
		MissesUntilLate: 2, MissesUntilOffline: 3,
	}}
	p := presenceOf(spec)
	if p.Kind != Clients || p.Grace != 5*time.Second {
		t.Fatalf("%+v", p)
	}
	for asked, want := range map[time.Duration]time.Duration{
		0: 10 * time.Minute, time.Second: 30 * time.Second, time.Minute: time.Minute, time.Hour: 10 * time.Minute,
	} {
		if got := p.interval(asked, false); got != want {
			t.Errorf("asked for %v, got %v, want %v", asked, got, want)
		}
	}
	if got, want := p.lease(time.Minute), (session.Lease{
		Interval: time.Minute, Late: 2*time.Minute + 15*time.Second, Offline: 3*90*time.Second + 5*time.Second,
	}); got != want {
		t.Errorf("lease %+v, want %+v", got, want)
	}
	nodes := presenceOf(v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{}})
	if got := nodes.lease(nodes.interval(0, false)); nodes.Kind != Nodes || got.Offline != 2*time.Second {
		t.Errorf("a node's lease is %+v, want 2 s", got)
	}
	if none := presenceOf(v1alpha1.PresenceSpec{}); none.Kind != "" {
		t.Errorf("a spec without a subject is %+v", none)
	}
}

func TestAdmissionSpreadsReturns(t *testing.T) {
	now := time.Unix(1000, 0)
	a := newAdmission(10, 2)
	var waits []time.Duration
	for range 6 {
		wait, ok := a.admit(now, false)
		if ok != (len(waits) < 2) {
			t.Fatalf("client %d: %v", len(waits), ok)
		}
		waits = append(waits, wait)
	}
	if waits[2] != 100*time.Millisecond || waits[5] != 400*time.Millisecond {
		t.Errorf("waits %v, want 100 ms more for each", waits[2:])
	}
	if _, ok := a.admit(now.Add(100*time.Millisecond), false); !ok {
		t.Error("nobody is let in when there is room again")
	}
	for range 1000 {
		if wait, _ := a.admit(now, false); wait > longestWait {
			t.Fatalf("told to wait %v", wait)
		}
	}
	if _, ok := a.admit(now, true); !ok {
		t.Error("a probe was refused because of clients")
	}
}

func TestTheLoadBandDoesNotFlap(t *testing.T) {
	var v vitals
	now := session.Tick(100)
	v.advance(now)
	step := func(delay time.Duration) int {
		now++
		v.advance(now)
		v.observe(delay)
		return v.queueDelay.of(v.worst(), now)
	}
	for _, delay := range []time.Duration{0, 3 * time.Millisecond, 15 * time.Millisecond} {
		if got := step(delay); got != 0 {
			t.Errorf("%v: band %d, want none", delay, got)
		}
	}
	if got := step(300 * time.Millisecond); got != 512 {
		t.Errorf("band %d, want 512", got)
	}
	for ticks := 1; ; ticks++ { // out of sight after a second, told two seconds later
		got := step(0)
		if got == 0 && ticks >= 20 && ticks <= 32 {
			break
		}
		if got != 512 || ticks > 32 {
			t.Fatalf("%d ticks later: band %d", ticks, got)
		}
	}
}

func TestPaceIsAFirstWaveAndThenARate(t *testing.T) {
	now := time.Unix(1000, 0)
	p := pace{credit: 25, at: now}
	take := func(n int) { p.credit -= float64(n) }
	if got := p.due(now, 500); got != 25 {
		t.Fatalf("first wave %d, want 25", got)
	}
	take(25)
	total := 0
	for range 20 {
		now = now.Add(50 * time.Millisecond)
		n := p.due(now, 500)
		take(n)
		total += n
	}
	if total != 500 {
		t.Errorf("%d in a second, want 500", total)
	}
	if got := p.due(now.Add(time.Minute), 500); got > 500 {
		t.Errorf("%d after a minute's stop: it was saved up", got)
	}
}

func TestTargetsAreChosenByWeight(t *testing.T) {
	targets := []store.Target{{Server: "a", Weight: 5}, {Server: "b", Weight: 1}, {Server: "c", Weight: 1}, {Server: "d"}}
	var c choice
	var order []string
	for range 7 {
		order = append(order, c.next(targets).Server)
	}
	if got, want := strings.Join(order, ""), "aabacaa"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	if got := c.next(nil); got.Server != "" {
		t.Errorf("nothing to choose from gives %v", got)
	}
}

func TestALaterTermWins(t *testing.T) {
	now := time.Unix(1000, 0)
	d := drain{wake: make(chan struct{}, 1)}
	directive := func(failover string, term int64) *store.Directive {
		return &store.Directive{Failover: failover, Drain: true, Term: term}
	}
	d.follow(now, directive("f1", 5))
	d.follow(now, directive("f0", 4))
	if got := d.progress(); got == nil || got.Failover != "f1" {
		t.Errorf("follows %+v, want f1", got)
	}
	d.follow(now, nil)
	d.follow(now, directive("f0", 4))
	if got := d.progress(); got != nil {
		t.Errorf("follows %+v, of a term that is over", got)
	}
}
