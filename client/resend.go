package client

import (
	"sync"
	"time"
)

// Bounds of what is kept to be sent again.
const (
	maxRecent      = 64
	maxRecentBytes = 64 << 10
)

// recent is what servers have acknowledged of late.
type recent struct {
	keep time.Duration // zero: nothing is kept

	mu    sync.Mutex
	all   []publication // oldest first
	bytes int
}

type publication struct {
	at      time.Time // of its acknowledgement
	topic   string
	payload []byte
}

func (r *recent) add(now time.Time, topic string, payload []byte) {
	if r.keep == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, publication{now, topic, payload})
	r.bytes += len(topic) + len(payload)
	for len(r.all) > 0 && (len(r.all) > maxRecent || r.bytes > maxRecentBytes || now.Sub(r.all[0].at) > r.keep) {
		r.bytes -= len(r.all[0].topic) + len(r.all[0].payload)
		r.all[0] = publication{}
		r.all = r.all[1:]
	}
}

// take removes all that was acknowledged at most keep before lost, and what is
// older.
func (r *recent) take(lost time.Time) []publication {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []publication
	for _, p := range r.all {
		if lost.Sub(p.at) <= r.keep {
			out = append(out, p)
		}
	}
	r.all, r.bytes = nil, 0
	return out
}
