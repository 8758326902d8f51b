package session

import (
	"runtime"
	"testing"
	"time"
)

// BenchmarkMemory is what a million sessions take in the table: the heap that is
// live with it, client ids included, for each.
func BenchmarkMemory(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		before := live()
		table, _, _ := million(b, n, 10*time.Second)
		b.ReportMetric(float64(live()-before)/n, "B/session")
		runtime.KeepAlive(table)
	}
}

func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
