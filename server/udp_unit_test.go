package server

import (
	"hash/maphash"
	"net/netip"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// TestStrangersAreNotLookedAtForLong: neither for many from one source, nor for
// many sources.
func TestStrangersAreNotLookedAtForLong(t *testing.T) {
	g := guard{seed: maphash.MakeSeed()}
	opened := 0
	for i := range 2_000_000 {
		if b := g.bucket(uint64(i), 100); *b < maxForged {
			*b++
			opened++
		}
	}
	if opened > maxForged*forgeryLog {
		t.Errorf("%d were opened in a second, want at most %d", opened, maxForged*forgeryLog)
	}
	if b := g.bucket(1, 100+second-1); *b != maxForged {
		t.Errorf("in the same second it counts %d", *b)
	}
	if b := g.bucket(1, 100+second); *b != 0 {
		t.Errorf("a second later it still counts %d", *b)
	}
}

func TestBoundsThatHoldAnywhere(t *testing.T) {
	p := Presence{MinInterval: time.Second, MaxInterval: time.Hour}
	if got := p.anywhere(); got.MinInterval != time.Second || got.MaxInterval != time.Hour {
		t.Errorf("without overrides: %v to %v", got.MinInterval, got.MaxInterval)
	}
	p.Overrides = &Overrides{Min: 30 * time.Second, Max: 10 * time.Minute, All: []Override{
		{Network: "cell", Max: 4 * time.Minute}, {Region: "cn", Min: time.Minute}, {Network: "wifi", Max: time.Hour},
	}}
	if got := p.anywhere(); got.MinInterval != time.Minute || got.MaxInterval != 4*time.Minute {
		t.Errorf("%v to %v, want what holds on every network and in every region", got.MinInterval, got.MaxInterval)
	}
	p.Overrides.All = append(p.Overrides.All, Override{Region: "far", Min: 5 * time.Minute})
	if got := p.anywhere(); got.MinInterval != 4*time.Minute || got.MaxInterval != 4*time.Minute {
		t.Errorf("%v to %v, want the longest that is nowhere too long", got.MinInterval, got.MaxInterval)
	}
}

// TestDirectivesHaveNumbers: what one has told nobody follows once it is another's turn.
func TestDirectivesHaveNumbers(t *testing.T) {
	d := &drain{wake: make(chan struct{}, 1)}
	now := time.Unix(1000, 0)
	d.number = maxNumber - 1
	for _, c := range []struct {
		name string
		next *store.Directive
		want uint32
	}{
		{"the first", &store.Directive{Failover: "f", Term: 1, Count: 1}, maxNumber},
		{"the same, for more clients", &store.Directive{Failover: "f", Term: 2, Count: 2}, maxNumber},
		{"none", nil, 0},
		{"the same again", &store.Directive{Failover: "f", Term: 2, Count: 2}, 1},
		{"another", &store.Directive{Failover: "g", Term: 2, Drain: true}, 2},
		{"one that moves nobody", &store.Directive{Term: 2, Refuse: true}, 0},
		{"one of an earlier leader", &store.Directive{Failover: "h", Term: 1}, 0},
	} {
		if d.follow(now, c.next); d.standing.Load() != c.want {
			t.Errorf("%s: number %d stands, want %d", c.name, d.standing.Load(), c.want)
		}
	}
}

func TestSources(t *testing.T) {
	of := func(s string) uint64 { return sourceOf(netip.MustParseAddr(s)) }
	if of("10.0.0.1") != of("::ffff:10.0.0.1") || of("10.0.0.1") == of("10.0.0.2") {
		t.Error("an IPv4 address is one source, however it is written")
	}
	if of("2001:db8::1") != of("2001:db8::ffff:2") || of("2001:db8::1") == of("2001:db8:0:1::1") {
		t.Error("a network of 64 bits is one source")
	}
}
