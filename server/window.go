package server

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/server/watch"
)

// window is how much of QoS 1 a client may be sent before it acknowledges some.
type window struct {
	size  int
	freed chan struct{} // holds one where some may have been

	mu       sync.Mutex
	last     uint16
	inFlight map[uint16]struct{}
}

func newWindow(size int) window {
	return window{size: size, freed: make(chan struct{}, 1), inFlight: map[uint16]struct{}{}}
}

// try takes a packet identifier, if there is room.
func (w *window) try() (id uint16, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.inFlight) >= w.size {
		return 0, false
	}
	for {
		w.last++
		if _, used := w.inFlight[w.last]; w.last != 0 && !used {
			w.inFlight[w.last] = struct{}{}
			return w.last, true
		}
	}
}

// wait takes a packet identifier once there is room; a client that acknowledges
// nothing for slowAfter gets none.
func (w *window) wait(ctx context.Context) (uint16, error) {
	slow := time.NewTimer(slowAfter)
	defer slow.Stop()
	for {
		if id, ok := w.try(); ok {
			if w.room() {
				w.free() // another subscription of the client may wait, too
			}
			return id, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-slow.C:
			return 0, watch.ErrBehind
		case <-w.freed:
		}
	}
}

func (w *window) room() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.inFlight) < w.size
}

// release gives an identifier back; false: it was not in flight.
func (w *window) release(id uint16) bool {
	w.mu.Lock()
	_, was := w.inFlight[id]
	delete(w.inFlight, id)
	w.mu.Unlock()
	if was {
		w.free()
	}
	return was
}

func (w *window) free() {
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

func revision(n int64) string { return strconv.FormatInt(n, 10) }
