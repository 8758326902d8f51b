package cgroup

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const over = 2 * time.Second

// life is what becomes of a cgroup in one second.
type life struct {
	run, throttled, processors, memory time.Duration
}

// play has each second pass in ten steps, looks as often as every says, and returns what was said at
// each whole second, and when something was said first, zero: never.
func play(every time.Duration, lives ...life) (said []Kind, first time.Duration) {
	const step = 100 * time.Millisecond
	var m Meter
	var c Counters
	var s Strain
	began := time.Unix(100, 0)
	look := func(after time.Duration) {
		s = m.See(began.Add(after), c, over, s.Kind)
		if s.Kind != "" && first == 0 {
			first = after
		}
	}
	look(0)
	next := every
	for n, l := range lives {
		for i := range 10 {
			c.Used, c.Throttled = c.Used+l.run/10, c.Throttled+l.throttled/10
			c.Processors, c.Memory = c.Processors+l.processors/10, c.Memory+l.memory/10
			if after := time.Duration(n)*time.Second + time.Duration(i+1)*step; after >= next {
				look(after)
				next = after + every
			}
		}
		said = append(said, s.Kind)
	}
	return said, first
}

func times(n int, l life) (all []life) {
	for range n {
		all = append(all, l)
	}
	return all
}

const ms = time.Millisecond

func TestWhoIsKeptFromRunning(t *testing.T) {
	idle, burst := life{run: 5 * ms}, life{run: 100 * ms, throttled: 900 * ms}
	for _, tt := range []struct {
		name string
		life []life
		want string // by seconds
	}{
		{"nobody who is idle", times(6, idle), "[     ]"},
		{"who is starved by its limit", times(4, life{run: 20 * ms, throttled: 980 * ms}), "[ throttled throttled throttled]"},
		{"and no more when it ends", append(times(4, life{run: 20 * ms, throttled: 980 * ms}), times(3, idle)...), "[ throttled throttled throttled   ]"},
		{"not by a burst of a second", []life{idle, idle, idle, burst, idle, idle, idle}, "[      ]"},
		{"not by bursts of a second", []life{burst, idle, burst, idle, idle}, "[    ]"},
		{"not who uses what it may, and is held up a little", times(5, life{run: 900 * ms, throttled: 100 * ms}), "[    ]"},
		{"not who is held up a little on each of eight processors", times(5, life{run: 7200 * ms, throttled: 800 * ms}), "[    ]"},
		{"who is held up on each of eight processors", times(3, life{run: 160 * ms, throttled: 7840 * ms}), "[ throttled throttled]"},
		{"not who is held up in the little that it does", times(5, life{run: 10 * ms, throttled: 90 * ms}), "[    ]"},
		{"who finds no processor", times(3, life{run: 100 * ms, processors: 900 * ms}), "[ processors processors]"},
		{"not who shares one with another", times(4, life{run: 500 * ms, processors: 500 * ms}), "[   ]"},
		{"who waits for memory", times(3, life{run: 100 * ms, memory: 800 * ms}), "[ memory memory]"},
		{"not who waits for memory now and then", times(4, life{run: 100 * ms, memory: 300 * ms}), "[   ]"},
		{"by its limit, which shows as want of processors too", times(3, life{run: 20 * ms, throttled: 980 * ms, processors: 980 * ms}), "[ throttled throttled]"},
		{"still, while it is so for half of the time", append(times(3, life{run: 20 * ms, throttled: 980 * ms}), times(3, life{run: 400 * ms, throttled: 600 * ms})...),
			"[ throttled throttled throttled throttled throttled]"},
	} {
		for _, every := range []time.Duration{time.Second, 500 * ms} {
			if got, _ := play(every, tt.life...); fmt.Sprint(got) != tt.want {
				t.Errorf("%s, looked at every %v: %q, want %q", tt.name, every, fmt.Sprint(got), tt.want)
			}
		}
	}
}

// It starves from the end of the third second on: three quarters of two seconds later it
// can be said, and is at the next look.
func TestHowSoonItIsSaid(t *testing.T) {
	starved := append(times(3, life{run: 5 * ms}), times(4, life{run: 20 * ms, throttled: 980 * ms})...)
	for every, want := range map[time.Duration]time.Duration{200 * ms: 4800 * ms, 500 * ms: 5 * time.Second, time.Second: 5 * time.Second} {
		if _, first := play(every, starved...); first != want {
			t.Errorf("looked at every %v it is said after %v, want %v", every, first, want)
		}
	}
}

func TestALookIsWorthTakingSoon(t *testing.T) {
	var m Meter
	now := time.Unix(1, 0)
	see := func(after time.Duration, c Counters) Strain {
		now = now.Add(after)
		return m.See(now, c, over, "")
	}
	if s := see(0, Counters{Throttled: time.Hour}); s.Rising {
		t.Error("the first one says so")
	}
	if s := see(time.Second, Counters{Throttled: time.Hour + 600*ms, Used: 10 * ms}); !s.Rising || s.Kind != "" {
		t.Errorf("who was throttled most of the time since: %+v", s)
	}
	if s := see(time.Second, Counters{Throttled: time.Hour + 600*ms, Used: 20 * ms}); s.Rising {
		t.Errorf("who was not since: %+v", s)
	}
	if s := see(time.Hour, Counters{Throttled: 2 * time.Hour, Used: 30 * ms}); s != (Strain{}) {
		t.Errorf("after an hour in which nobody looked: %+v", s)
	}
	if s := see(time.Second, Counters{}); s != (Strain{}) {
		t.Errorf("when its counters begin anew: %+v", s)
	}
	if s := see(-time.Second, Counters{Throttled: time.Second}); s != (Strain{}) {
		t.Errorf("when the clock goes back: %+v", s)
	}
}

// A slow, obvious judge that remembers every look agrees, whenever looks are taken.
func TestLooksAreRememberedForAsLongAsTheyMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		over := time.Second + time.Duration(r.IntN(8))*time.Second
		var m Meter
		var all []look
		now, c := time.Unix(1, 0), Counters{}
		for range 300 {
			m.See(now, c, over, "")
			all = append(all, look{now, c})
			step := time.Duration(50+r.IntN(900)) * ms
			now = now.Add(step)
			got, ok := m.back(now, over)
			wanted := false
			for _, l := range all {
				if ago := now.Sub(l.at); ago >= over && ago <= over+step+over/4 {
					wanted = true
				}
			}
			if wanted && !ok {
				t.Fatalf("there is no look from %v ago", over)
			}
			if ok && (now.Sub(got.at) < over*3/4 || now.Sub(got.at) > 2*over) {
				t.Fatalf("the look is %v old, for %v", now.Sub(got.at), over)
			}
		}
	}
}
