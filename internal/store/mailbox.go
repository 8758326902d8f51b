package store

import (
	"context"
	"sync"
)

// gatherer merges what is added to it, until it is taken as one.
type gatherer[T any] interface {
	add(T)
	take() T
}

// mailbox stands between a watch, which must not wait, and its reader, which may
// be slow: what has not been taken is merged with what comes next.
type mailbox[T any] struct {
	out  chan T
	full chan struct{} // holds one while something waits

	mu      sync.Mutex
	waiting gatherer[T]
}

func newMailbox[T any](g gatherer[T]) *mailbox[T] {
	return &mailbox[T]{out: make(chan T), full: make(chan struct{}, 1), waiting: g}
}

func (m *mailbox[T]) put(v T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting.add(v)
	select {
	case m.full <- struct{}{}:
	default:
	}
}

func (m *mailbox[T]) take() T {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.full: // put since run woke up; it is in what is taken now
	default:
	}
	return m.waiting.take()
}

// run hands everything on until ctx ends, and then closes out.
func (m *mailbox[T]) run(ctx context.Context) {
	defer close(m.out)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.full:
		}
		select {
		case <-ctx.Done():
			return
		case m.out <- m.take():
		}
	}
}
