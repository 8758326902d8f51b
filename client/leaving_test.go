package client_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/clienttest"
	"github.com/rollcall-dev/rollcall/client/crowd"
	"github.com/rollcall-dev/rollcall/internal/store"
)

const (
	leavers         = 10_000
	leavingInterval = 10 * time.Second
	// leavingRate is the announced rate, of all receivers together.
	leavingRate = 500
)

// arrivals counts by the second after a fault.
type arrivals struct {
	mu       sync.Mutex
	begun    time.Time // zero: not yet
	moved    []int     // taken by a receiver
	connects []float64 // sent to one, taken or refused
}

func (a *arrivals) take(l crowd.Line) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.Kind != client.Moved || a.begun.IsZero() {
		return
	}
	second := int(l.At.Sub(a.begun) / time.Second)
	for len(a.moved) <= second {
		a.moved = append(a.moved, 0)
	}
	a.moved[second]++
}

// BenchmarkLeaving has 10,000 clients on one server, which is then stopped (the
// receivers admit 250 a second each) or drained at 500 a second. It tells how
// many arrive at the receivers in the busiest second, and what a client costs at
// rest. ROLLCALL_LEAVING names a directory for the figures of each second.
func BenchmarkLeaving(b *testing.B) {
	for _, test := range []struct {
		name         string
		connectRates []float64
		leave        func(*testing.B, *clienttest.Site)
	}{
		{"stopped", []float64{0, leavingRate / 2, leavingRate / 2}, func(_ *testing.B, s *clienttest.Site) { s.Servers[0].Stop() }},
		{"drained", nil, func(b *testing.B, s *clienttest.Site) {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			leader, err := s.Store.Campaign(ctx, "test")
			if err != nil {
				b.Fatal(err)
			}
			d := store.Directive{Failover: "test/drain", Incarnation: clienttest.Incarnation("server-0"), Drain: true, Rate: leavingRate, FirstWave: 1}
			for _, to := range s.Servers[1:] {
				d.Targets = append(d.Targets, store.Target{Server: to.Name, Address: to.Address, Weight: 1})
			}
			if err := leader.PutDirective(ctx, s.Servers[0].Name, d); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				s := clienttest.Start(b, clienttest.Config{Servers: 3, ConnectRates: test.connectRates, Capacity: leavers})
				leaving(b, s, test.name, test.leave)
			}
		})
	}
}

func leaving(b *testing.B, s *clienttest.Site, name string, leave func(*testing.B, *clienttest.Site)) {
	registry := prometheus.NewRegistry()
	var a arrivals
	before := rss(b)
	c, err := crowd.New(crowd.Config{
		Count: leavers, Servers: s.Addresses()[:1], Presence: clienttest.Presence, StartRate: 1000,
		Interval: leavingInterval, AckTimeout: time.Second, Misses: 2, OnLine: a.take, Registerer: registry,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for c.Snapshot().Connected[s.Servers[0].Name] < leavers {
		<-tick.C
	}
	b.ReportMetric(float64(rss(b)-before)/leavers, "B/client")
	b.ReportMetric(float64(runtime.NumGoroutine())/leavers, "goroutines/client")

	// Ten thousand clients of one process share its collector, as those of ten
	// thousand machines do not.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	leave(b, s)
	a.mu.Lock()
	a.begun = time.Now()
	a.mu.Unlock()
	last := attempts(b, registry)
	a.connects = []float64{0}
	for total(c.Snapshot())-c.Snapshot().Connected[s.Servers[0].Name] < leavers {
		<-tick.C
		now, second := attempts(b, registry), int(time.Since(a.begun)/time.Second)-1
		for len(a.connects) <= second {
			a.connects = append(a.connects, 0)
		}
		a.connects[max(second, 0)] += now - last
		last = now
	}
	snapshot := c.Snapshot()
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	most, mostConnects := 0.0, 0.0
	for _, n := range a.moved {
		most = max(most, float64(n))
	}
	for _, n := range a.connects {
		mostConnects = max(mostConnects, n)
	}
	b.ReportMetric(most, "arrivals/s")
	b.ReportMetric(mostConnects, "connects/s")
	b.ReportMetric(float64(len(a.moved)), "s")
	b.ReportMetric(float64(snapshot.Offline), "offline")
	b.Logf("%s: %v, now at %v, offline %d", name, snapshot.MovesBy, snapshot.Connected, snapshot.Offline)
	write(b, name, &a)
}

func write(b *testing.B, name string, a *arrivals) {
	dir := os.Getenv("ROLLCALL_LEAVING")
	if dir == "" {
		return
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	_ = w.Write([]string{"second", "arrivals", "connects"})
	for i := range max(len(a.moved), len(a.connects)) {
		row := []string{fmt.Sprint(i), "0", "0"}
		if i < len(a.moved) {
			row[1] = fmt.Sprint(a.moved[i])
		}
		if i < len(a.connects) {
			row[2] = fmt.Sprint(math.Round(a.connects[i]))
		}
		_ = w.Write(row)
	}
	w.Flush()
	if err := os.WriteFile(dir+"/leaving-"+name+".csv", out.Bytes(), 0o644); err != nil {
		b.Error(err)
	}
}

// attempts is how many CONNECTs were answered.
func attempts(b *testing.B, r *prometheus.Registry) float64 {
	b.Helper()
	families, err := r.Gather()
	if err != nil {
		b.Fatal(err)
	}
	n := 0.0
	for _, f := range families {
		if f.GetName() == "rollcall_client_attempts_total" {
			for _, m := range f.GetMetric() {
				if outcome := m.GetLabel()[0].GetValue(); outcome == "accepted" || outcome == "refused" {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// rss is this process's resident memory in bytes, after a collection.
func rss(b *testing.B) int64 {
	b.Helper()
	runtime.GC()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
