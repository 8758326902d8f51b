package server

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/advice"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// maxNetworks bounds the networks of Presences that reports are kept of.
	// Beyond, they are counted together, and nothing is advised.
	maxNetworks = 256
	// reportEvery is how often one connection may report outcomes.
	reportEvery = 10 * time.Second
)

// outcomes are what clients have reported of silences that their connections
// survived, or did not.
type outcomes struct {
	counter *prometheus.CounterVec
	// seed tells clients apart: nobody can choose an id that counts beside another's.
	seed maphash.Seed

	mu  sync.Mutex
	all map[network]*tallied
	// advised are intervals in milliseconds by Presence and network, as the
	// server's record has them; replaced when one changes, never changed.
	advised map[string]map[string]int64
}

// network is a kind of network of one Presence, "namespace/name".
type network struct{ presence, kind string }

type tallied struct {
	advice.Tally
	max time.Duration
}

func newOutcomes(reg prometheus.Registerer) *outcomes {
	o := &outcomes{all: map[network]*tallied{}, seed: maphash.MakeSeed(), counter: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rollcall_server_reported_silences_total",
		Help: "Silences of their connections that clients reported, by Presence and kind of network: answered, or lost after it.",
	}, []string{"presence", "network", "outcome"})}
	if reg != nil {
		reg.MustRegister(o.counter)
	}
	return o
}

// add takes what a client reported.
func (o *outcomes) add(at network, client string, reported []wire.Outcomes) {
	who := maphash.String(o.seed, client)
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.all[at]
	if t == nil {
		if len(o.all) >= maxNetworks {
			at = network{networkOther, networkOther}
		} else {
			t = &tallied{}
			o.all[at] = t
		}
	}
	answered, lost := o.counter.WithLabelValues(at.presence, at.kind, "answered"), o.counter.WithLabelValues(at.presence, at.kind, "lost")
	for _, r := range reported {
		answered.Add(float64(r.Answered))
		lost.Add(float64(r.Lost))
		if t != nil {
			t.Add(who, time.Duration(r.Interval)*time.Millisecond, r.Answered, r.Lost)
		}
	}
	if t == nil {
		return
	}
	if best := t.Max(t.max); best != t.max {
		t.max = best
		o.advise()
	}
}

// advise makes advised anew; mu is held.
func (o *outcomes) advise() {
	o.advised = map[string]map[string]int64{}
	for at, t := range o.all {
		if t.max == 0 {
			continue
		}
		if o.advised[at.presence] == nil {
			o.advised[at.presence] = map[string]int64{}
		}
		o.advised[at.presence][at.kind] = t.max.Milliseconds()
	}
}

// says is what the server's record says of it; not to be written to.
func (o *outcomes) says() map[string]map[string]int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.advised) == 0 {
		return nil
	}
	return o.advised
}
