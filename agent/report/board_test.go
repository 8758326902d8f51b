package report

import (
	"slices"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestBoardTellsOfChangesAndOfNothingElse(t *testing.T) {
	const limit = 500 * time.Millisecond
	base := wire.Observation{Band: wire.BandOK, Address: "10.0.0.1:1883", Incarnation: "a.1", Answer: 900, QueueDelay: 100}
	with := func(change func(*wire.Observation)) wire.Observation {
		o := base
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		change func(*Board)
		want   bool
	}{
		"the same again":               {func(b *Board) { b.Observe("s", limit, base) }, false},
		"another answer time":          {func(b *Board) { b.Observe("s", limit, with(func(o *wire.Observation) { o.Answer = 249_999 })) }, false},
		"an answer in half the limit":  {func(b *Board) { b.Observe("s", limit, with(func(o *wire.Observation) { o.Answer = 250_000 })) }, true},
		"another queue delay":          {func(b *Board) { b.Observe("s", limit, with(func(o *wire.Observation) { o.QueueDelay = 499_999 })) }, false},
		"a queue delay over the limit": {func(b *Board) { b.Observe("s", limit, with(func(o *wire.Observation) { o.QueueDelay = 500_000 })) }, true},
		"another band":                 {func(b *Board) { b.Observe("s", limit, with(func(o *wire.Observation) { o.Band = wire.BandHung })) }, true},
		"another incarnation":          {func(b *Board) { b.Observe("s", limit, with(func(o *wire.Observation) { o.Incarnation = "b.2" })) }, true},
		"another server":               {func(b *Board) { b.Observe("t", limit, base) }, true},
		"a server forgotten":           {func(b *Board) { b.Forget("s") }, true},
		"an unknown server forgotten":  {func(b *Board) { b.Forget("t") }, false},
		"the same word":                {func(b *Board) { b.Suspect("n", wire.Suspicion{Word: wire.NodeAlive, Detail: "still"}) }, false},
		"another word":                 {func(b *Board) { b.Suspect("n", wire.Suspicion{Word: wire.NodeDead}) }, true},
		"a node forgotten":             {func(b *Board) { b.Absolve("n") }, true},
		"an unknown node forgotten":    {func(b *Board) { b.Absolve("m") }, false},
		"health as it was":             {func(b *Board) { b.SetHealth(0) }, false},
		"illness":                      {func(b *Board) { b.SetHealth(2) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBoard()
			b.Observe("s", limit, base)
			b.Suspect("n", wire.Suspicion{Word: wire.NodeAlive})
			var r wire.Report
			if _, ok := b.Take(&r); !ok {
				t.Fatal("the first observations are no news")
			}
			<-b.changed
			c.change(b)
			_, got := b.Take(&r)
			if got != c.want {
				t.Errorf("news: %v, want %v", got, c.want)
			}
			if woken := len(b.changed) > 0; woken != c.want {
				t.Errorf("woken: %v, want %v", woken, c.want)
			}
		})
	}
}

// At the end of a slow spell the median is still high. If that were the last word,
// the server would be sent nobody for ever.
func TestThatAServerAnswersInTimeAgainIsNews(t *testing.T) {
	b := NewBoard()
	var told []int64
	for _, answer := range []int64{900, 600_000, 260_000, 130_000, 120_000, 900, 240_000} {
		band := wire.BandOK
		if answer > 500_000 {
			band = wire.BandSlow
		}
		b.Observe("s", 500*time.Millisecond, wire.Observation{Band: band, Answer: answer})
		var r wire.Report
		if _, ok := b.Take(&r); ok {
			told = append(told, r.Observations["s"].Answer)
		}
	}
	if want := []int64{900, 600_000, 260_000, 120_000}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// A server that was told to be late is suspect until the contrary is told, and what
// is told is what was news: a value in between must not hide the next.
func TestThatAQueueIsShortAgainIsNews(t *testing.T) {
	b := NewBoard()
	var told []int64
	for _, delay := range []int64{900, 745_000, 400_000, 300_000, 510_000, 249_000, 100, 499_000, 500_000} {
		b.Observe("s", 500*time.Millisecond, wire.Observation{Band: wire.BandOK, QueueDelay: delay})
		b.SetHealth(int(delay % 2)) // something else is news now and then
		var r wire.Report
		if _, ok := b.Take(&r); ok {
			told = append(told, r.Observations["s"].QueueDelay)
		}
	}
	if want := []int64{900, 745_000, 249_000, 500_000}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

func TestConnectionsAndWhyNobodyCanCountThemAreNews(t *testing.T) {
	b := NewBoard()
	count := func(n int) *int { return &n }
	told := 0
	for _, o := range []wire.Observation{
		{Band: wire.BandOK}, {Band: wire.BandOK, Connections: count(0)}, {Band: wire.BandOK, Connections: count(0), Detail: "idle"},
		{Band: wire.BandOK, Connections: count(7)}, {Band: wire.BandBlind, Detail: "why"}, {Band: wire.BandBlind, Detail: "why"}, {Band: wire.BandBlind, Detail: "another"},
		{Band: wire.BandUnasked, Detail: "why"}, {Band: wire.BandUnasked, Detail: "why"}, {Band: wire.BandUnasked, Detail: "another"},
	} {
		b.Observe("s", time.Second, o)
		if _, ok := b.Take(&wire.Report{}); ok {
			told++
		}
	}
	if told != 7 {
		t.Errorf("told %d times, want 7", told)
	}
}

func TestWhatKeepsAServerFromRunningIsNewsWhenItBegins(t *testing.T) {
	b := NewBoard()
	var told []string
	for _, s := range []wire.Strain{{}, {Kind: "throttled", Detail: "throttled 80 %"}, {Kind: "throttled", Detail: "throttled 90 %"}, {Kind: "memory"}, {}, {}} {
		b.Observe("s", time.Second, wire.Observation{Band: wire.BandOK, Strain: s})
		var r wire.Report
		if _, ok := b.Take(&r); ok {
			told = append(told, r.Observations["s"].Strain.Kind+r.Observations["s"].Strain.Detail)
		}
	}
	if want := []string{"", "throttledthrottled 80 %", "memory", ""}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestHealthIsNewsWhenItComesAndGoes(t *testing.T) {
	b := NewBoard()
	var got []int
	for _, h := range []int{1, 2, 3, 0, 0, 1} {
		b.SetHealth(h)
		var r wire.Report
		if _, ok := b.Take(&r); ok {
			got = append(got, r.Health)
		}
	}
	if want := []int{1, 0, 1}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

func TestPlaces(t *testing.T) {
	a, b := Place{Server: "a", Address: "1:1"}, Place{Server: "b", Address: "2:2"}
	own := Place{Server: "own", Address: "3:3", Own: true}
	ill := func(servers ...string) func(string) bool {
		return func(s string) bool { return slices.Contains(servers, s) }
	}
	for name, c := range map[string]struct {
		places []Place
		other  string
		ill    func(string) bool
		want   []string // addresses that are not excluded
	}{
		"nothing is known":                         {nil, "", ill(), nil},
		"one server is the only choice":            {[]Place{own}, "own", ill("own"), []string{"3:3"}},
		"not this node's own":                      {[]Place{a, b, own}, "", ill(), []string{"1:1", "2:2"}},
		"not where the other session is":           {[]Place{a, b, own}, "a", ill(), []string{"2:2"}},
		"rather together than on this node's own":  {[]Place{a, own}, "a", ill(), []string{"1:1"}},
		"rather on this node's own than on an ill": {[]Place{a, own}, "", ill("a"), []string{"3:3"}},
		"an ill one when all are":                  {[]Place{a, b}, "", ill("a", "b"), []string{"1:1", "2:2"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range c.places {
				if !excluded(p.Address, c.places, c.other, c.ill) {
					got = append(got, p.Address)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("allowed %v, want %v", got, c.want)
			}
			if excluded("service:1883", c.places, c.other, c.ill) {
				t.Error("an address that is nobody's is excluded")
			}
		})
	}
}

func TestMisplaced(t *testing.T) {
	a, b := Place{Server: "a"}, Place{Server: "b"}
	own := Place{Server: "own", Own: true}
	ill := func(servers ...string) func(string) bool {
		return func(s string) bool { return slices.Contains(servers, s) }
	}
	for name, c := range map[string]struct {
		server, other string
		places        []Place
		ill           func(string) bool
		want          bool
	}{
		"two sessions on two servers stay":        {"a", "b", []Place{a, b, own}, ill(), false},
		"two on one server part":                  {"a", "a", []Place{a, b}, ill(), true},
		"two on the only server stay":             {"a", "a", []Place{a}, ill(), false},
		"one on this node's own moves":            {"own", "b", []Place{a, b, own}, ill(), true},
		"but not to where the other is":           {"own", "b", []Place{b, own}, ill(), true},
		"nor to a server that is ill":             {"own", "", []Place{a, own}, ill("a"), false},
		"illness is not for us to find out":       {"a", "b", []Place{a, b, {Server: "c"}}, ill("a"), false},
		"a server that nobody knows is no reason": {"x", "b", []Place{a, b}, ill(), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := misplaced(c.server, c.places, c.other, c.ill); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
