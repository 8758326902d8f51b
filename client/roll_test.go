package client

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

func state(s wire.State, revision int64) wire.PresenceState {
	return wire.PresenceState{State: s, Revision: revision}
}

func TestWhoWentWhileNobodyToldIsGone(t *testing.T) {
	r := newRoll()
	r.begin()
	r.take("ann", state(wire.StateOnline, 5), true)
	r.take("bob", state(wire.StateOnline, 6), true)
	r.take(wire.EveryClient, state(wire.StateCurrent, 6), true)
	r.begin() // another server
	if c := r.take("bob", state(wire.StateOnline, 6), true); len(c) != 0 {
		t.Errorf("bob was told twice: %+v", c)
	}
	c := r.take(wire.EveryClient, state(wire.StateCurrent, 9), true)
	if len(c) != 2 || c[0].Client != "ann" || c[0].Online || c[0].Revision != 9 || c[1].Client != "" || c[1].Revision != 9 {
		t.Errorf("%+v, want ann gone, and then that this was all", c)
	}
}

// A store with clients that come, move and go, servers that tell of it from
// anywhere on, late, twice, and from the beginning: whoever follows what the
// roll lets through knows who is online whenever it was told that this was all,
// and is never told anything twice.
func TestTheRollFollowsTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"ann", "bob", "cid"}
		store := map[string]wire.PresenceState{}
		var log []string // clients, by order of change
		var states []wire.PresenceState
		revision := int64(1)
		r, online, seen := newRoll(), map[string]bool{}, map[string]bool{}
		follow := func(changes []Change) {
			for _, c := range changes {
				if c.Client == "" {
					continue
				}
				key := fmt.Sprint(c.Client, c.Revision, c.Online)
				if seen[key] {
					t.Fatalf("told twice: %+v", c)
				}
				seen[key] = true
				if c.Online {
					online[c.Client] = true
				} else {
					delete(online, c.Client)
				}
			}
		}
		change := func() {
			revision++
			name := rapid.SampledFrom(names).Draw(t, "who")
			s := state(rapid.SampledFrom([]wire.State{wire.StateOnline, wire.StateOffline}).Draw(t, "what"), revision)
			store[name] = s
			log, states = append(log, name), append(states, s)
		}
		for range rapid.IntRange(1, 10).Draw(t, "connections") {
			for range rapid.IntRange(0, 4).Draw(t, "untold") {
				change()
			}
			r.begin()
			now := int64(0)
			for name, s := range store {
				if s.State == wire.StateOnline {
					follow(r.take(name, s, true))
				}
				now = max(now, s.Revision)
			}
			follow(r.take(wire.EveryClient, state(wire.StateCurrent, now), true))
			want := map[string]bool{}
			for name, s := range store {
				if s.State == wire.StateOnline {
					want[name] = true
				}
			}
			if !maps.Equal(online, want) {
				t.Fatalf("online %v, want %v", online, want)
			}
			from := len(log)
			for range rapid.IntRange(0, 4).Draw(t, "told") {
				change()
			}
			for i := max(0, from-rapid.IntRange(0, 3).Draw(t, "repeated")); i < len(log); i++ {
				follow(r.take(log[i], states[i], false))
			}
		}
	})
}

func TestARollIsBounded(t *testing.T) {
	r := newRoll()
	for i := range 3 * maxGone {
		name := fmt.Sprint("c", i)
		r.take(name, state(wire.StateOnline, int64(2*i)), false)
		r.take(name, state(wire.StateOffline, int64(2*i+1)), false)
	}
	if len(r.known) > maxGone || r.gone != len(r.known) {
		t.Errorf("%d are remembered, %d counted", len(r.known), r.gone)
	}
}
