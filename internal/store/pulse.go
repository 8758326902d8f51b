package store

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// pulseEvery: how often etcd is asked whether it is there, when nothing else
	// has been asked meanwhile.
	pulseEvery = time.Second
	// pulseLate: an answer younger than this counts as "now".
	pulseLate = 1500 * time.Millisecond
	// awayNotice: an absence longer than this is logged.
	awayNotice = 5 * time.Second
	// progressEvery: how often watches are told how far they are, so that a
	// reconnect needs little history. etcd by itself does so every 10 minutes.
	progressEvery = 30 * time.Second
)

// pulse knows when etcd last answered. It goes by when the answered question was
// asked, on the monotonic clock: an answer that lay in a buffer while this
// process was stopped is old.
type pulse struct {
	epoch time.Time
	last  atomic.Int64 // nanoseconds after epoch
}

func (p *pulse) begin(now time.Time) { p.epoch = now }

func (p *pulse) answered(asked time.Time) {
	at := int64(asked.Sub(p.epoch))
	for {
		old := p.last.Load()
		if at <= old || p.last.CompareAndSwap(old, at) {
			return
		}
	}
}

func (p *pulse) age(now time.Time) time.Duration {
	return now.Sub(p.epoch) - time.Duration(p.last.Load())
}

// Away is how long etcd's quorum has not answered this process; 0: it answers.
// An absence shows after 1.5 s.
func (s *Store) Away(now time.Time) time.Duration {
	if d := s.pulse.age(now); d > pulseLate {
		return d
	}
	return 0
}

// beat asks etcd for nothing, once a second, unless another question was
// answered meanwhile. After a connection was made anew it asks in any case: the
// renewals of leases go on in a backup that was restored, and show nothing, and
// a server whose clients stay would not learn of it. It never writes.
func (s *Store) beat() {
	var told time.Time // since when an absence is in the log
	progressed := s.clock()
	for s.ctx.Err() == nil {
		wait := pulseEvery - s.pulse.age(s.clock())
		if wait <= 0 || !s.canary.sure() {
			err := s.attempt(s.ctx, opPulse, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, pulseEvery)
				defer cancel()
				_, err := s.client.Get(ctx, nothingKey, clientv3.WithCountOnly())
				return err
			})
			if err != nil {
				wait = rand.N(pulseEvery / 4)
			}
		}
		now := s.clock()
		switch away := s.pulse.age(now); {
		case away > awayNotice && told.IsZero():
			told = now.Add(-away)
			s.log.Warn("Etcd does not answer", "away", away)
		case away <= pulseLate && !told.IsZero():
			s.log.Info("Etcd answers again", "away", now.Sub(told))
			told = time.Time{}
		}
		if now.Sub(progressed) >= progressEvery {
			progressed = now
			if err := s.RequestProgress(s.ctx); err != nil && s.ctx.Err() == nil {
				s.log.Debug("Progress of the watches could not be asked for", "error", err)
			}
		}
		_ = pause(s.ctx, max(wait, time.Millisecond))
	}
}
