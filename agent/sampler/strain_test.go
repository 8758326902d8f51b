package sampler

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/cgroup"
	"github.com/rollcall-dev/rollcall/internal/sockets"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// playedCgroups are a pod's that say what they are told to.
type playedCgroups struct {
	says   cgroup.Strain
	fails  error
	over   time.Duration // that was asked for last
	looks  int
	closed int
}

func (p *playedCgroups) Look(_ time.Time, over time.Duration) (cgroup.Strain, error) {
	p.over = over
	p.looks++
	return p.says, p.fails
}

func (p *playedCgroups) Close() { p.closed++ }

var (
	rising    = cgroup.Strain{Rising: true}
	throttled = cgroup.Strain{Kind: cgroup.Throttled, Share: 0.93, Over: 2 * time.Second, Rising: true}
)

// newStrainedWatch is of a pod whose cgroups and sockets can be read.
func newStrainedWatch(p *played, c *playedCgroups) (w *watch, told *[]wire.Observation, opened *int) {
	w, told = newWatch(p)
	opened = new(int)
	w.open = func(Target) (cgroups, error) { *opened++; return c, nil }
	return w, told, opened
}

func TestWhatKeepsAServerFromRunningIsToldWhenItIsSeen(t *testing.T) {
	p, c := &played{queue: sockets.Queue{Limit: 8}, clients: []string{"10.0.0.7:1"}}, &playedCgroups{}
	w, told, opened := newStrainedWatch(p, c)
	now := time.Unix(1, 0)
	last := func() wire.Observation { return (*told)[len(*told)-1] }
	for _, tt := range []struct {
		says cgroup.Strain
		wait time.Duration
		kind string
	}{
		{cgroup.Strain{}, calm, ""},
		{rising, uneasy, ""},
		{throttled, uneasy, "throttled"},
		{throttled, uneasy, "throttled"},
		{cgroup.Strain{}, calm - uneasy, ""}, // when sockets are to be looked at
	} {
		c.says = tt.says
		wait := w.look(t.Context(), now)
		if wait != tt.wait {
			t.Errorf("at %v the next look is in %v, want %v", now, wait, tt.wait)
		}
		if o := last(); o.Strain.Kind != tt.kind || o.Band != wire.BandOK || o.Connections == nil || *o.Connections != 1 || o.Incarnation != "u" || !o.Since.Equal(time.Unix(1, 0)) {
			t.Errorf("at %v told is %+v", now, o)
		}
		if o := last(); tt.kind != "" && o.Strain.Detail != "throttled 93 % of the last 2s, by its CPU limit" {
			t.Errorf("it is told that the pod was %q", o.Strain.Detail)
		}
		now = now.Add(wait)
	}
	if *opened != 1 || c.over != 2*time.Second {
		t.Errorf("cgroups were opened %d times, and looked at for %v", *opened, c.over)
	}
	c.fails = errors.New("no such device")
	c.says = throttled
	w.look(t.Context(), now)
	if o := last(); o.Strain != (wire.Strain{}) || c.closed != 1 {
		t.Errorf("when the cgroups are gone told is %+v, and they were closed %d times", o, c.closed)
	}
	c.fails = nil
	w.look(t.Context(), now.Add(calm))
	if *opened != 1 {
		t.Error("they are looked for again at once")
	}
	w.look(t.Context(), now.Add(enterAgain))
	if o := last(); *opened != 2 || o.Strain.Kind != "throttled" {
		t.Errorf("they are opened %d times, and told is %+v", *opened, o)
	}
}

// The window of a Presence may be longer, or shorter than a burst.
func TestStrainIsJudgedByTheWindowOfThePresence(t *testing.T) {
	for window, want := range map[time.Duration]time.Duration{500 * time.Millisecond: 2 * time.Second, 3 * time.Second: 4 * time.Second} {
		c := &playedCgroups{}
		w, _, _ := newStrainedWatch(&played{queue: sockets.Queue{Limit: 8}}, c)
		w.target.Window = window
		w.look(t.Context(), time.Unix(1, 0))
		if c.over != want {
			t.Errorf("with a window of %v it is judged over %v, want %v", window, c.over, want)
		}
	}
}

// Sockets are dearer than cgroups, and are looked at as often as without.
func TestSocketsAreLookedAtAsOftenAsWithoutCgroups(t *testing.T) {
	p, c := &played{queue: sockets.Queue{Limit: 8}, clients: []string{"10.0.0.7:1"}}, &playedCgroups{says: throttled}
	w, _, _ := newStrainedWatch(p, c)
	now := time.Unix(1, 0)
	for end := now.Add(time.Minute); now.Before(end); {
		p.received, p.read = p.received+1, p.read+1
		now = now.Add(w.look(t.Context(), now))
	}
	if c.looks != 120 || p.got < 50 || p.got > 60 {
		t.Errorf("in a minute cgroups are looked at %d times, and a connection %d times", c.looks, p.got)
	}
	// In the first seconds of it all are counted, and then seldom, as ever.
	if n := p.walks(); n > 8 {
		t.Errorf("all connections are looked at %d times", n)
	}
}

func TestConnectionsOfAServerWhoseClientsMayBeMovedAreCountedAtOnce(t *testing.T) {
	p, c := &played{queue: sockets.Queue{Limit: 8}, clients: []string{"10.0.0.7:1"}}, &playedCgroups{}
	w, told, _ := newStrainedWatch(p, c)
	now := time.Unix(1, 0)
	play := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); {
			p.received, p.read = p.received+1, p.read+1
			now = now.Add(w.look(t.Context(), now))
		}
	}
	play(10 * time.Minute)
	for w.countAt.Sub(now) < countLate-5*time.Second { // right after they were counted
		play(calm)
	}
	for i := range 30 {
		p.clients = append(p.clients, "10.0.1."+string(rune('1'+i%9))+":"+string(rune('1'+i/9)))
	}
	play(2 * time.Second)
	if n := *(*told)[len(*told)-1].Connections; n != 1 {
		t.Fatalf("%d are told of already", n)
	}
	c.says = rising
	play(calm + countFirst)
	if n := *(*told)[len(*told)-1].Connections; n != 31 {
		t.Errorf("%v after it began %d are told of", calm+countFirst, n)
	}
	// So they are when the controller begins to doubt that it is well, half a minute later.
	c.says = cgroup.Strain{}
	play(countLate + countSoon)
	for w.countAt.Sub(now) < countLate-5*time.Second {
		play(calm)
	}
	p.clients = p.clients[:11]
	play(2 * time.Second)
	w.doubted = func() bool { return true }
	play(calm + countFirst)
	if n := *(*told)[len(*told)-1].Connections; n != 11 {
		t.Errorf("%v after it is doubted %d are told of", calm+countFirst, n)
	}
}

// A pod whose sockets can't be asked may be throttled all the same.
func TestWhatKeepsARefusedPodFromRunningIsTold(t *testing.T) {
	c := &playedCgroups{says: throttled}
	w, told, _ := newStrainedWatch(&played{}, c)
	w.target.Refused = "take hostNetwork off it"
	now := time.Unix(1, 0)
	for range 3 {
		wait := w.look(t.Context(), now)
		if wait != uneasy {
			t.Errorf("the next look is in %v", wait)
		}
		now = now.Add(wait)
	}
	o := (*told)[len(*told)-1]
	if len(*told) != 1 || o.Band != wire.BandBlind || o.Strain.Kind != "throttled" || !strings.Contains(o.Detail, "hostNetwork") {
		t.Errorf("told is %+v", *told)
	}
}

func TestCgroupsThatAreNotFoundAreSaidOnce(t *testing.T) {
	w, told := newWatch(&played{queue: sockets.Queue{Limit: 8}})
	var log bytes.Buffer
	w.log = slog.New(slog.NewTextHandler(&log, nil))
	tries := 0
	w.open = func(Target) (cgroups, error) { tries++; return nil, cgroup.ErrNone }
	now := time.Unix(1, 0)
	for range 25 {
		now = now.Add(w.look(t.Context(), now))
	}
	if o := (*told)[0]; o.Band != wire.BandOK || o.Strain != (wire.Strain{}) {
		t.Errorf("told is %+v", o)
	}
	if said := strings.Count(log.String(), cgroup.ErrNone.Error()); said != 1 || tries != 3 {
		t.Errorf("in 25 s they are looked for %d times, and it is said %d times:\n%s", tries, said, log.String())
	}
}
