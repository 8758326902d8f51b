package retry

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// within bounds one attempt to bring something about. What is still wanted
	// after that is tried again.
	within = 10 * time.Second
	// echo is how long what was written may take to show in the caches; until
	// then it isn't written again.
	echo = 2 * time.Second
)

// Once brings things about in the background, each once at a time. Every exported
// field is needed.
type Once struct {
	Retry  *Retrier
	Logger *slog.Logger
	Now    func() time.Time
	// Go runs something in the background, and has it waited for at the end.
	Go func(func())
	// Done is called after each attempt.
	Done func()

	mu   sync.Mutex
	busy map[string]time.Time // what is being brought about, or was just now; zero: still
}

// Bring does something in the background, not while it is at it already, and not
// again until it has had time to show. It returns at once.
func (o *Once) Bring(ctx context.Context, operation, about string, do func(context.Context) error) {
	key := operation + " " + about
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy == nil {
		o.busy = map[string]time.Time{}
	}
	now := o.Now()
	for k, at := range o.busy {
		if !at.IsZero() && now.Sub(at) > echo {
			delete(o.busy, k)
		}
	}
	if _, busy := o.busy[key]; busy {
		return
	}
	o.busy[key] = time.Time{}
	o.Go(func() {
		attempt, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		if err := o.Retry.Do(attempt, operation, do); err != nil && ctx.Err() == nil {
			o.Logger.Warn("Not brought about yet", "operation", operation, "about", about, "err", err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.busy[key] = o.Now()
		o.Done()
	})
}
