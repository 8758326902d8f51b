package client

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestChoosePrefersRoom(t *testing.T) {
	rnd, counts := source(1), make([]int, 3)
	candidates := []wire.ServerHint{hint(a, 100), hint(b, 50), hint(c, 0)}
	const n = 30000
	for range n {
		counts[choose(rnd, candidates)]++
	}
	// Of each of the three pairs, in proportion to 1, 51 and 101.
	for i, want := range []float64{(1./52 + 1./102) / 3, (51./52 + 51./152) / 3, (101./102 + 101./152) / 3} {
		if got := float64(counts[i]) / n; got < want-0.01 || got > want+0.01 {
			t.Errorf("%s: chosen %.3f of the time, want %.3f", candidates[i].Address, got, want)
		}
	}
}

// Every client of a server that hangs chooses with nearly the same list, which
// is as old as its session. This is the figure that made choose what it is.
func TestChooseDoesNotHerd(t *testing.T) {
	lessLoaded := func(rnd *rand.Rand, l []wire.ServerHint) int {
		i, j := rnd.IntN(len(l)), rnd.IntN(len(l)-1)
		if j >= i {
			j++
		}
		if l[j].Load < l[i].Load {
			return j
		}
		return i
	}
	worst := func(pick func(*rand.Rand, []wire.ServerHint) int, loads ...int) float64 {
		const each, capacity = 667, 2000
		rnd, held := source(2), make([]int, len(loads))
		var l []wire.ServerHint
		for i, load := range loads {
			l = append(l, wire.ServerHint{Load: load})
			held[i] = each
		}
		for range each {
			held[pick(rnd, l)]++
		}
		mean := float64(each*(len(loads)+1)) / float64(len(loads))
		return float64(slices.Max(held)) / mean
	}
	for _, loads := range [][]int{{33, 34}, {30, 36}, {33, 33, 34, 34}} {
		ours, theirs := worst(choose, loads...), worst(lessLoaded, loads...)
		t.Logf("loads %v: the fullest receiver holds %.2f × the mean; %.2f if always the less loaded of two were taken", loads, ours, theirs)
		if ours > 1.1 {
			t.Errorf("loads %v: %.2f × the mean", loads, ours)
		}
	}
}

func TestBackoffIsFullJitterWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "least"))
		most := least + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "more"))
		n := rapid.IntRange(0, 200).Draw(t, "n")
		rnd := source(rapid.Uint64().Draw(t, "seed"))
		ceiling := most
		for d, i := least, 0; d < most; d, i = 2*d, i+1 {
			if i == n {
				ceiling = d
				break
			}
		}
		var sum time.Duration
		const draws = 200
		for range draws {
			d := backoff(rnd, least, most, n)
			if d < 0 || d >= ceiling {
				t.Fatalf("%v is not in [0, %v)", d, ceiling)
			}
			sum += d / draws
		}
		// Uniform: the mean of 200 draws lies within 6 standard errors of the middle.
		if off := (sum - ceiling/2).Abs(); off > ceiling/8+draws {
			t.Fatalf("mean %v of [0, %v)", sum, ceiling)
		}
	})
}

// Whatever servers say and do, a round tries no address twice, none that is
// excluded, none before its time, and one that was left only when nothing else
// was open or pending.
func TestRoutesKeepTheirPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addresses := []string{"a:1", "b:1", "c:1", "d:1", "e:1"}
		address := rapid.SampledFrom(addresses)
		excluded := rapid.SampledFrom(addresses[1:]).Draw(t, "excluded")
		r := newRoutes(rapid.SliceOfN(address, 1, 3).Draw(t, "bootstrap"), 30*time.Second, func(x string) bool { return x == excluded })
		rnd, now := source(rapid.Uint64().Draw(t, "seed")), epoch
		left, busy := map[string]time.Time{}, map[string]time.Time{}
		tried := map[string]bool{}
		known := func() map[string]bool {
			m := map[string]bool{}
			for _, x := range r.bootstrap {
				m[x] = true
			}
			for _, h := range r.hints {
				m[h.Address] = true
			}
			return m
		}
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 20000).Draw(t, "ms")) * time.Millisecond)
			},
			"a list": func(t *rapid.T) {
				var g guidance
				g.listed = true
				for _, x := range rapid.SliceOfDistinct(address, rapid.ID[string]).Draw(t, "list") {
					g.servers = append(g.servers, hint(x, rapid.IntRange(0, 100).Draw(t, "load")))
				}
				g.references = rapid.SliceOfN(address, 0, 2).Draw(t, "references")
				r.learn(now, address.Draw(t, "from"), g)
			},
			"a new round": func(*rapid.T) { r.round(); clear(tried) },
			"try": func(t *rapid.T) {
				x, ok := r.next(now, rnd)
				if !ok {
					for k := range known() {
						if k != excluded && !tried[k] && !left[k].After(now) && !busy[k].After(now) {
							t.Fatalf("%s was not tried in this round", k)
						}
					}
					if at := r.resume(now); at.Before(now) {
						t.Fatalf("resumes in the past")
					}
					return
				}
				if x == excluded || tried[x] || busy[x].After(now) {
					t.Fatalf("%s: excluded, tried before, or before its time", x)
				}
				if left[x].After(now) {
					for k := range known() {
						if k != x && k != excluded && !left[k].After(now) && (!tried[k] || busy[k].After(now)) {
							t.Fatalf("returned to %s, although %s is open", x, k)
						}
					}
				}
				tried[x] = true
				switch rapid.IntRange(0, 3).Draw(t, "outcome") {
				case 0:
					r.failed(now, x)
				case 1:
					after := rapid.IntRange(1, 40).Draw(t, "retry after")
					r.learn(now, x, guidance{retryAfter: time.Duration(after) * time.Second})
					r.busy(now, x)
					busy[x] = now.Add(time.Duration(after) * time.Second)
				default:
					r.arrived(now, x, "")
					delete(left, x)
					delete(busy, x)
					now = now.Add(time.Second)
					r.left(now, x, "")
					left[x] = now.Add(30 * time.Second)
					r.round()
					clear(tried)
				}
			},
		})
	})
}

func testBeats(misses int) *beats {
	return beatsOf(5*time.Second, 0, misses)
}

// beatsOf has an answer timeout of 1 s, whatever comes.
func beatsOf(interval time.Duration, jitter float64, misses int) *beats {
	r := newRhythm(Config{Interval: interval, BackgroundInterval: interval, Jitter: jitter})
	return &beats{rhythm: &r, trip: roundTrip{floor: time.Second, ceiling: time.Second}, misses: misses}
}

func TestATimerThatIsFarBehindExcusesTheServerOnce(t *testing.T) {
	rnd, now := source(1), epoch
	b := testBeats(1)
	b.begin(now, rnd)
	now = now.Add(10 * time.Second) // this process was stopped
	if v := b.tick(now, rnd, unknown); v != beat {
		t.Fatalf("verdict %d, want another beat", v)
	}
	now = now.Add(10 * time.Second) // and again, and the server has said nothing
	if v := b.tick(now, rnd, unknown); v != leave {
		t.Fatalf("verdict %d, want to leave", v)
	}
}

func TestAnotherPacketIsProofOfLife(t *testing.T) {
	rnd, now := source(1), epoch
	b := testBeats(2)
	b.begin(now, rnd)
	if v := b.tick(now.Add(time.Second), rnd, unknown); v != late {
		t.Fatalf("verdict %d, want late", v)
	}
	b.heard(now.Add(1500*time.Millisecond), false, rnd)
	if v := b.tick(now.Add(2500*time.Millisecond), rnd, unknown); v != wait || b.missed != 0 {
		t.Fatalf("verdict %d, missed %d, want to wait", v, b.missed)
	}
}

// Against a server that answers each beat in order after its own delay: it is
// left exactly when the model below, which looks at whole answer times, says so.
func TestBeatsAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		misses := rapid.IntRange(1, 4).Draw(t, "misses")
		interval := time.Duration(rapid.IntRange(200, 10000).Draw(t, "interval")) * time.Millisecond
		delays := rapid.SliceOfN(rapid.IntRange(0, 1500), 1, 40).Draw(t, "delays")
		rnd := source(1)
		b := beatsOf(interval, 0.1, misses)
		now := epoch
		var answers []time.Time // due, in order
		longest := time.Duration(0)
		send := func(n int) {
			d := time.Duration(delays[n%len(delays)]) * time.Millisecond
			longest = max(longest, d)
			at := now.Add(d)
			if k := len(answers); k > 0 && at.Before(answers[k-1]) {
				at = answers[k-1]
			}
			answers = append(answers, at)
		}
		b.begin(now, rnd)
		send(0)
		for n := 1; n < 200; {
			if len(answers) > 0 && !answers[0].After(b.wake()) {
				now, answers = answers[0], answers[1:]
				b.heard(now, true, rnd)
				continue
			}
			now = b.wake()
			v := b.tick(now, rnd, unknown)
			switch v {
			case leave:
				if b.missed != misses || longest <= time.Second {
					t.Fatalf("left after %d late answers, the longest of them %v; misses %d", b.missed, longest, misses)
				}
				return
			case late:
				if longest <= time.Second {
					t.Fatalf("late, although no answer took more than %v", longest)
				}
				fallthrough
			case beat:
				send(n)
				n++
			}
			if b.next.Sub(now) > interval {
				t.Fatalf("next beat in %v", b.next.Sub(now))
			}
		}
	})
}

func TestJitterKeepsWithinItsShare(t *testing.T) {
	rnd, b := source(3), beatsOf(5*time.Second, 0.1, 1)
	least, most := time.Hour, time.Duration(0)
	for range 10000 {
		b.send(epoch, rnd)
		least, most = min(least, b.next.Sub(epoch)), max(most, b.next.Sub(epoch))
	}
	if least < 4500*time.Millisecond || most > 5*time.Second || least > 4510*time.Millisecond || most < 4990*time.Millisecond {
		t.Errorf("beats every %v to %v, want 4.5 s to 5 s", least, most)
	}
	// After a connection, anywhere.
	least, most = time.Hour, 0
	for range 10000 {
		b.begin(epoch, rnd)
		least, most = min(least, b.next.Sub(epoch)), max(most, b.next.Sub(epoch))
	}
	if least < 0 || most > 5*time.Second || least > 10*time.Millisecond || most < 4990*time.Millisecond {
		t.Errorf("the first beats after %v to %v, want 0 to 5 s", least, most)
	}
}

func TestKeepAliveIsNeverShorterThanTheInterval(t *testing.T) {
	for interval, want := range map[time.Duration]uint16{
		5 * time.Second: 5, 5001 * time.Millisecond: 6, 500 * time.Millisecond: 1, 10 * time.Second: 10, 65535 * time.Second: 65535,
	} {
		if got := seconds(interval); got != want {
			t.Errorf("%v: %d s, want %d", interval, got, want)
		}
	}
}

func TestNewsOfAnotherPhaseChangesNothing(t *testing.T) {
	c := newCore(Config{Servers: []string{a}, Presence: "x/y", ClientID: "z"}.settle(), source(1))
	for _, e := range []any{heard{}, broke{}, rejected{}, dismissed{refusal: &Refusal{}}, spoke{}, declined{}, woken{}, sentAway{}, changed{}, seen{}} {
		if out := c.step(epoch, e); out != nil || c.phase != resting {
			t.Errorf("%T before the start: %v", e, out)
		}
	}
	if out := c.step(epoch, accepted{id: 7}); len(out) != 1 || out[0] != any(discard{}) {
		t.Errorf("a connection that nobody has asked for: %v", out)
	}
}
