package server

import (
	"hash/maphash"
	"net/netip"
	"testing"
	"time"
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

func TestSources(t *testing.T) {
	of := func(s string) uint64 { return sourceOf(netip.MustParseAddr(s)) }
	if of("10.0.0.1") != of("::ffff:10.0.0.1") || of("10.0.0.1") == of("10.0.0.2") {
		t.Error("an IPv4 address is one source, however it is written")
	}
	if of("2001:db8::1") != of("2001:db8::ffff:2") || of("2001:db8::1") == of("2001:db8:0:1::1") {
		t.Error("a network of 64 bits is one source")
	}
}
