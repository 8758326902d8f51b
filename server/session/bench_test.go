package session

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// million is a table of n sessions that beat every interval, and their handles
// in no order.
func million(b *testing.B, n int, interval time.Duration) (*Table[line], []*Session[line], Tick) {
	b.Helper()
	now := Tick(1)
	table := NewTable[line]()
	class, link := table.Class("im", "phone", false), &line{}
	all := make([]*Session[line], n)
	for i := range all {
		got, err := table.Attach(Arrival[line]{
			Class: class, Client: fmt.Sprintf("client-%07d", i), Principal: "alice", Link: link, Now: now,
			Lease: Lease{Interval: interval, Late: interval * 5 / 4, Offline: interval*3/2 + 5*time.Second},
		})
		if err != nil {
			b.Fatal(err)
		}
		all[i] = got.Session
	}
	rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	return table, all, now
}

// BenchmarkBeat is one beat of one of a million sessions, in no order.
func BenchmarkBeat(b *testing.B) {
	_, all, now := million(b, 1_000_000, 10*time.Second)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		all[i].Beat(now)
		if i++; i == len(all) {
			i = 0
			now++
		}
	}
}

// BenchmarkStampAndBeat is a beat with the look at the clock that comes before
// each read.
func BenchmarkStampAndBeat(b *testing.B) {
	_, all, _ := million(b, 1_000_000, 10*time.Second)
	clock := NewClock(nil)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		all[i].Beat(clock.Stamp().Tick)
		if i++; i == len(all) {
			i = 0
		}
	}
}

// BenchmarkPatrol is one tick over a million sessions that beat every 10 s.
func BenchmarkPatrol(b *testing.B) {
	table, all, now := million(b, 1_000_000, 10*time.Second)
	var silent []View[line]
	next := 0
	tick := func() {
		now++
		for range len(all) / 100 { // every one beats once in 100 ticks
			all[next].Beat(now)
			if next++; next == len(all) {
				next = 0
			}
		}
		silent = table.Patrol(now, 0, silent)
		if len(silent) > 0 {
			b.Fatalf("%d were silent", len(silent))
		}
	}
	for range 300 { // until their chunks are looked at in turn
		tick()
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		now++
		for range len(all) / 100 {
			all[next].Beat(now)
			if next++; next == len(all) {
				next = 0
			}
		}
		b.StartTimer()
		silent = table.Patrol(now, 0, silent)
	}
}

// BenchmarkAttach is an arrival and a departure.
func BenchmarkAttach(b *testing.B) {
	table := NewTable[line]()
	class, link := table.Class("im", "phone", false), &line{}
	b.ReportAllocs()
	for b.Loop() {
		got, err := table.Attach(Arrival[line]{Class: class, Client: "c", Principal: "alice", Link: link, Now: 1, Lease: Lease{Offline: time.Second}})
		if err != nil {
			b.Fatal(err)
		}
		table.Leave(got.Session, link)
		table.Release(got.Session, link)
	}
}
