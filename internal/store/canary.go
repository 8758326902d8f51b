package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/stats"
)

// canary is the latest change that this process knows of. After each connection
// that is made anew it is asked whether etcd still knows it: a backup that was
// restored meanwhile may have got past the revision known here.
type canary struct {
	// connections made so far, and those when etcd was last asked.
	connections, asked atomic.Uint32
	asking             sync.Mutex // held while etcd is asked

	mu       sync.Mutex
	history  uint32 // that the rest is of
	key      string
	revision int64
}

// witness takes note of a change, in the history with that number; not while
// etcd has not been asked since a connection was made anew: a watch that goes on
// by itself may bring a change of a backup then, by which that backup would be
// taken for the history known here.
func (c *canary) witness(history uint32, key string, revision int64) {
	if c.connections.Load() != c.asked.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if history > c.history {
		c.history, c.key, c.revision = history, "", 0
	}
	if history == c.history && revision > c.revision {
		c.key, c.revision = key, revision
	}
}

// known is the latest change of a history; "" where there is none.
func (c *canary) known(history uint32) (key string, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if history != c.history {
		return "", 0
	}
	return c.key, c.revision
}

// TagConn, TagRPC, HandleConn and HandleRPC make it a stats.Handler, which counts
// connections.

// TagConn does nothing.
func (c *canary) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC does nothing.
func (c *canary) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC does nothing.
func (c *canary) HandleRPC(context.Context, stats.RPCStats) {}

// HandleConn counts connections.
func (c *canary) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, begun := s.(*stats.ConnBegin); begun {
		c.connections.Add(1)
	}
}

// askWithin bounds a question about the canary.
const askWithin = time.Second

type askingKey struct{}

// recognise makes sure, after a connection was made anew, that etcd is of the
// history known here. Where it cannot tell, the next answer asks again.
func (s *Store) recognise(ctx context.Context) {
	c := &s.canary
	if c.connections.Load() == c.asked.Load() || ctx.Value(askingKey{}) != nil {
		return
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	connections, number := c.connections.Load(), s.Rewinds()
	if connections == c.asked.Load() {
		return
	}
	key, revision := c.known(number)
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, askingKey{}, true), askWithin)
	defer cancel()
	same, err := s.knows(ctx, key, revision)
	if err == nil && !same {
		var got *clientv3.GetResponse
		if got, err = s.client.Get(ctx, nothingKey, clientv3.WithCountOnly()); err == nil {
			s.rewind(revision, got.Header.Revision, got.Header.ClusterId, number)
		}
	}
	if err == nil {
		c.asked.Store(connections)
	}
}

// knows asks etcd whether a key was changed at a revision. What is compacted it
// may have forgotten, unless the key shows that it goes back.
func (s *Store) knows(ctx context.Context, key string, revision int64) (bool, error) {
	if key == "" {
		return true, nil
	}
	got, err := s.client.Get(ctx, key, clientv3.WithRev(revision))
	switch {
	case errors.Is(err, rpctypes.ErrFutureRev):
		return false, nil
	case errors.Is(err, rpctypes.ErrCompacted):
		got, err = s.client.Get(ctx, key)
		return err != nil || len(got.Kvs) == 0 || got.Kvs[0].ModRevision >= revision, err
	case err != nil:
		return false, err
	}
	return len(got.Kvs) == 1 && got.Kvs[0].ModRevision == revision, nil
}
