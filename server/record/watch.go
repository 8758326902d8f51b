package record

import (
	"context"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
)

const (
	// lookEvery is how often gaps and the store's absence are looked for.
	lookEvery = 100 * time.Millisecond
	// awayAfter is how long the store may be silent before it counts as away.
	awayAfter = 5 * time.Second
	// goneAfter is how long offline records wait after the store is back. Other
	// servers write within a second what they hold.
	goneAfter = 3 * time.Second
	// beatSlack is added to 1.5 intervals of a client for its next beat.
	beatSlack = 5 * time.Second
)

// watch follows all sessions' records until the context ends: what another
// incarnation writes about a client that is here takes it from us.
func (r *Recorder) watch(ctx context.Context) error {
	var from int64
	for ctx.Err() == nil {
		var err error
		var events <-chan store.SessionEvents
		if from == 0 { // what happens from here on is not missed, however late the watch begins
			var now int64
			if now, err = r.cfg.Store.Sync(ctx); err == nil {
				from = now + 1
			}
		}
		if err == nil {
			events, err = r.cfg.Store.WatchSessions(ctx, from)
		}
		if err != nil {
			r.cfg.Logger.Warn("Sessions could not be watched, will try again", "error", err)
			pause(ctx, time.Second)
			continue
		}
		r.start.Do(func() { close(r.started) })
		for e := range events {
			if e.Gap {
				r.verify(ctx, e.History)
			}
			for _, c := range e.Changes {
				r.changed(c)
			}
			r.mu.Lock()
			r.watched, r.history = e.Revision, e.History
			r.mu.Unlock()
			from = e.Revision + 1
		}
	}
	return ctx.Err()
}

// changed takes what the watch shows of one record.
func (r *Recorder) changed(c store.KeyedSession) {
	r.change(c.Key, func() *entry {
		e := r.entries.get(c.Key)
		if e == nil {
			if c.Session == nil || c.Session.Offline || c.Session.Incarnation != r.cfg.Incarnation {
				return nil
			}
			// Ours, of a client that is not here: a write whose outcome was
			// unknown has come through after all.
			// Or etcd was restored, and the client may be elsewhere (silent).
			e = r.entries.add(c.Key)
			e.set(*c.Session)
			e.lastSeen, e.silent = c.Session.Since, true
		}
		e.seen(r.found(e, c.Revision, c.Revision, c.Session))
		return e
	})
}

// verify makes up for changes that the watch may have missed: every record of a
// client that is here is read again, and every record that says that a client is
// here is looked at. In another history of the store than before, nothing that
// was known counts.
func (r *Recorder) verify(ctx context.Context, history uint32) {
	r.mu.Lock()
	rewound := history != r.history
	r.history, r.watched = history, 0
	if rewound {
		r.back = time.Now() // what others know is not all there yet
	}
	r.cfg.Logger.Info("Changes of sessions may have been missed, all that are held here are read again",
		"sessions", r.entries.len(), "historyLost", rewound)
	for e := range r.entries.each() {
		if rewound {
			e.rewind()
		}
		e.suspect()
		r.settle(e)
	}
	r.mu.Unlock()
	for ctx.Err() == nil {
		err := r.claimed(ctx)
		if err == nil {
			return
		}
		r.cfg.Logger.Warn("The sessions of this server could not be listed, will try again", "error", err)
		pause(ctx, time.Second)
	}
}

// claimed looks at every record that says that a client is here.
func (r *Recorder) claimed(ctx context.Context) error {
	for c, err := range r.cfg.Store.SessionsOf(ctx, r.cfg.Server, r.cfg.Incarnation) {
		if err != nil {
			return err
		}
		r.changed(c)
	}
	return nil
}

// observe looks for gaps and for the store's absence.
func (r *Recorder) observe(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		r.mu.Lock()
		r.noteAway(time.Now())
		r.noteGaps()
		held, gaps := r.held, r.gaps
		r.mu.Unlock()
		if held && r.caughtUp(ctx) {
			r.release(gaps)
		}
		r.rouse()
	}
}

// noteAway looks whether the store is away; r.mu is held.
func (r *Recorder) noteAway(now time.Time) {
	switch silent := r.cfg.Store.Away(now); {
	case silent > awayAfter && !r.away:
		r.away = true
		r.cfg.Logger.Warn("The store is away, beats are answered and changes are kept until it is back")
	case silent == 0 && r.away:
		r.away, r.back = false, now
		r.cfg.Logger.Info("The store is back", "waiting", r.waiting)
	}
}

// troubled notes that a batch has failed: what other servers hold may not be written
// either, whatever else the store answers.
func (r *Recorder) troubled(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = now
}

// tooSoon tells whether an offline record must wait because the store is away,
// or was until a moment ago, or has just failed to take a batch: a client that has
// gone elsewhere meanwhile must have had the time to beat there, and the server
// there the time to say so. For a batch that failed an agent that fell silent does
// not wait: that is how it is known that its node is gone, which others must have
// seen, too, and took a member of etcd with it.
func (r *Recorder) tooSoon(e *entry, now time.Time) bool {
	since := r.back
	if r.failed.After(since) && (!e.witness || !e.silent) {
		since = r.failed
	}
	if r.away || since.IsZero() {
		return r.away
	}
	wait := goneAfter
	if e.silent {
		wait += time.Duration(e.interval)*time.Millisecond*3/2 + beatSlack
	}
	return now.Before(since.Add(wait))
}

// noteGaps makes all that is not written unproven, where there was a gap; r.mu
// is held.
func (r *Recorder) noteGaps() {
	gaps := r.cfg.Gaps()
	if gaps == r.gaps {
		return
	}
	r.gaps, r.held = gaps, true
	r.metrics.gaps.Inc()
	r.cfg.Logger.Warn("This process was stopped or lost its lease, nothing is written until the watch has caught up")
	for e := range r.entries.each() {
		e.gap()
		r.settle(e)
	}
}

// caughtUp tells whether the watch has reached what the store holds by now.
func (r *Recorder) caughtUp(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	history := r.cfg.Store.Rewinds()
	target, err := r.cfg.Store.Sync(ctx)
	if err != nil || r.cfg.Store.Rewinds() != history {
		return false
	}
	for ctx.Err() == nil {
		r.mu.Lock()
		reached := r.history == history && r.watched >= target
		r.mu.Unlock()
		if reached {
			return true
		}
		if err := r.cfg.Store.RequestProgress(ctx); err != nil {
			return false
		}
		pause(ctx, 20*time.Millisecond)
	}
	return false
}

// release lets writes go on, unless there was another gap.
func (r *Recorder) release(gaps uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteGaps()
	if r.gaps == gaps {
		r.held = false
		r.cfg.Logger.Info("The watch has caught up, changes are written again", "waiting", r.waiting)
	}
}

// rouse makes a writer look at the queue.
func (r *Recorder) rouse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) > 0 && !r.held {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}
