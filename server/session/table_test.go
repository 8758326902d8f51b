package session

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type line struct{ name string }

// holding is a link that has not released its session.
type holding struct {
	link *line
	s    *Session[line]
}

// model is a table as one would write it without a thought for speed.
type model map[string]*modelSession

type modelSession struct {
	principal     string
	link          *line
	beat          Tick
	late, offline Tick
}

func (m model) silence(client string, now, floor Tick) Tick {
	return now - max(m[client].beat, floor)
}

// TestTableDoesWhatTheModelDoes drives both through the same arrivals, beats,
// departures and gaps, and compares who is there after every tick.
func TestTableDoesWhatTheModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, floor := Tick(rapid.Uint32Range(1, 5000).Draw(t, "start")), Tick(0)
		table := NewTable[line]()
		class := table.Class("im", "phone", false)
		m := model{}
		var held []holding
		var ended []View[line]

		client := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("c", rapid.IntRange(0, 5).Draw(t, "client")) })
		lease := rapid.Custom(func(t *rapid.T) Lease {
			interval := time.Duration(rapid.IntRange(1, 300).Draw(t, "interval")) * TickLength
			if rapid.IntRange(0, 9).Draw(t, "long") == 0 {
				interval *= 200 // beyond the horizon
			}
			return Lease{Interval: interval, Late: interval + interval/4, Offline: interval*3/2 + TickLength}
		})
		patrol := func() {
			ended = table.Patrol(now, floor, ended)
			for _, v := range ended {
				s := m[v.Client]
				if s == nil {
					t.Fatalf("tick %d: %s ended twice", now, v.Client)
				}
				if silence := m.silence(v.Client, now, floor); silence <= s.offline {
					t.Fatalf("tick %d: %s ended after a silence of %d, its lease is %d", now, v.Client, silence, s.offline)
				}
				if v.Link != s.link {
					t.Fatalf("tick %d: %s ended with another link", now, v.Client)
				}
				delete(m, v.Client)
			}
			lates := 0
			for name, s := range m {
				silence := m.silence(name, now, floor)
				if silence > s.offline+1 {
					t.Fatalf("tick %d: %s is there after a silence of %d, its lease is %d", now, name, silence, s.offline)
				}
				if silence > s.late+lookAgain {
					lates++
				}
			}
			if class.Live() != len(m) {
				t.Fatalf("tick %d: %d sessions, want %d", now, class.Live(), len(m))
			}
			if class.Late() < lates || class.Late() > len(m) {
				t.Fatalf("tick %d: %d late of %d, want at least %d", now, class.Late(), len(m), lates)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				name, l := client.Draw(t, "name"), lease.Draw(t, "lease")
				principal := rapid.SampledFrom([]string{"alice", "alice", "alice", "bob"}).Draw(t, "principal")
				link := &line{name}
				got, err := table.Attach(Arrival[line]{
					Class: class, Client: name, Principal: principal, Lease: l, Link: link, Now: now, WallClock: int64(now),
				})
				old := m[name]
				if old != nil && old.principal != principal {
					if !errors.Is(err, ErrPrincipal) {
						t.Fatalf("%s was let take over %s's session: %v", principal, old.principal, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				var before *line
				if old != nil {
					before = old.link
				}
				if got.Before != before {
					t.Fatalf("%s had another link before", name)
				}
				held = append(held, holding{link, got.Session})
				m[name] = &modelSession{principal, link, now, Ticks(l.Late), Ticks(l.Offline)}
			},
			"beat": func(t *rapid.T) {
				for _, h := range held {
					if x := m[h.link.name]; x != nil && x.link == h.link && rapid.Bool().Draw(t, "beats") {
						h.s.Beat(now)
						x.beat = now
					}
				}
			},
			"renew": func(t *rapid.T) {
				h := pick(t, held)
				if x := m[h.link.name]; x != nil && x.link == h.link {
					l := lease.Draw(t, "lease")
					h.s.Beat(now)
					table.Renew(h.s, l)
					x.beat, x.late, x.offline = now, Ticks(l.Late), Ticks(l.Offline)
				}
			},
			"leave": func(t *rapid.T) {
				h := pick(t, held)
				_, ok := table.Leave(h.s, h.link)
				if x := m[h.link.name]; ok != (x != nil && x.link == h.link) {
					t.Fatalf("%s left: %v", h.link.name, ok)
				}
				if ok {
					delete(m, h.link.name)
				}
			},
			"drop": func(t *rapid.T) {
				name := client.Draw(t, "name")
				var arrival uint64
				table.Each(func(v View[line]) bool {
					if v.Client == name {
						arrival = v.Arrival
					}
					return true
				})
				if _, ok := table.Drop(class, name, arrival+1); ok {
					t.Fatalf("%s was dropped for an arrival that has not been", name)
				}
				if _, ok := table.Drop(class, name, arrival); ok != (m[name] != nil) {
					t.Fatalf("%s dropped: %v", name, ok)
				}
				delete(m, name)
			},
			"hang up": func(t *rapid.T) {
				h := pick(t, held)
				table.Release(h.s, h.link)
				held = slices.DeleteFunc(held, func(x holding) bool { return x == h })
				if x := m[h.link.name]; x != nil && x.link == h.link {
					x.link = nil
				}
			},
			"pass": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "ticks") {
					now++
					patrol()
				}
			},
			"stop": func(t *rapid.T) {
				now += Tick(rapid.IntRange(11, 3000).Draw(t, "ticks"))
				floor = now
				patrol()
			},
			"": func(t *rapid.T) {
				live := map[string]bool{}
				table.Each(func(v View[line]) bool {
					live[v.Client] = true
					if x := m[v.Client]; x == nil || v.Link != x.link || v.LastBeat != x.beat {
						t.Fatalf("%s is %+v, want %+v", v.Client, v, x)
					}
					return true
				})
				if len(live) != len(m) || table.Live() != len(m) {
					t.Fatalf("%d sessions and %d, want %d", len(live), table.Live(), len(m))
				}
			},
		})
	})
}

func pick(t *rapid.T, held []holding) holding {
	if len(held) == 0 {
		t.Skip("nobody is connected")
	}
	return held[rapid.IntRange(0, len(held)-1).Draw(t, "who")]
}

func TestAHeldSessionIsNotReused(t *testing.T) {
	table := NewTable[line]()
	class := table.Class("im", "phone", false)
	attach := func(name string, l *line) *Session[line] {
		got, err := table.Attach(Arrival[line]{Class: class, Client: name, Link: l, Now: 1, Lease: Lease{Offline: time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		return got.Session
	}
	first, l := &line{"a"}, &line{"b"}
	held := attach("a", first)
	if _, ok := table.Leave(held, first); !ok {
		t.Fatal("a could not leave")
	}
	for i := range 3 * chunkSize * shards / 2 {
		if s := attach(fmt.Sprint("b", i), l); s == held {
			t.Fatal("a session was given away while a link holds it: a beat on that link would be another client's")
		}
	}
	table.Release(held, first)
	for i := range chunkSize * shards * 4 {
		if attach(fmt.Sprint("c", i), l) == held {
			return
		}
	}
	t.Error("a released session is never used again")
}

func TestNobodyIsSilentWhileWeWereStopped(t *testing.T) {
	now := time.Duration(0)
	clock := NewClock(func() time.Duration { return now })
	table := NewTable[line]()
	class := table.Class("im", "phone", false)
	if _, err := table.Attach(Arrival[line]{Class: class, Client: "c", Link: &line{}, Now: 0, Lease: Lease{Late: time.Second, Offline: 2 * time.Second}}); err != nil {
		t.Fatal(err)
	}
	patrol := func() int {
		return len(table.Patrol(clock.Advance().Tick, clock.Woke(), nil))
	}
	now = 800 * time.Millisecond // busy, not stopped
	if patrol(); clock.Gaps() != 0 {
		t.Fatal("a gap of 0.8 s counts as a stop")
	}
	now += time.Minute
	if s := clock.Stamp(); s.Gaps != 1 || clock.Woke() != s.Tick {
		t.Fatalf("a minute went by unnoticed: %+v, woke at %d", s, clock.Woke())
	}
	woke := now
	for now < woke+2*time.Second {
		if n := patrol(); n != 0 {
			t.Fatalf("ended %v after we woke, its lease is 2 s", now-woke)
		}
		now += TickLength
	}
	for patrol() == 0 {
		if now += TickLength; now > woke+2500*time.Millisecond {
			t.Fatal("it never ends")
		}
	}
	if clock.Gaps() != 1 {
		t.Errorf("%d gaps", clock.Gaps())
	}
}
