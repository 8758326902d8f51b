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

// canary is what etcd is asked for after each connection that is made anew: a
// backup that was restored meanwhile may have got past the revision known here.
type canary struct {
	// connections made so far, and those when etcd was last asked.
	connections, asked atomic.Uint32
	asking             sync.Mutex // held while etcd is asked

	mu      sync.Mutex
	history uint32 // that the rest is of
	// latest is the latest change that this process knows of, proven the latest from
	// before a connection that etcd was not asked about yet: a watch that goes on by
	// itself may bring a change of a backup then, which proves nothing but the backup.
	latest, proven landmark
}

// landmark is what a key was given at a revision; the zero value is none.
type landmark struct {
	key, value string
	revision   int64
}

// witness takes note of a change, in the history with that number.
func (c *canary) witness(history uint32, key string, value []byte, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if history > c.history {
		c.history, c.latest, c.proven = history, landmark{}, landmark{}
	}
	if history == c.history && revision > c.latest.revision {
		c.latest = landmark{key, string(value), revision}
		if c.sure() {
			c.proven = c.latest
		}
	}
}

// known is what etcd must know of that history.
func (c *canary) known(history uint32) (proven, latest landmark) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if history != c.history {
		return landmark{}, landmark{}
	}
	return c.proven, c.latest
}

// prove takes note that etcd knows of a change of that history.
func (c *canary) prove(history uint32, known landmark) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if history == c.history {
		c.proven = known
	}
}

// sure tells whether etcd was asked since a connection was made anew.
func (c *canary) sure() bool { return c.connections.Load() == c.asked.Load() }

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
	if c.sure() || ctx.Value(askingKey{}) != nil {
		return
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	connections, number := c.connections.Load(), s.Rewinds()
	if connections == c.asked.Load() {
		return
	}
	proven, latest := c.known(number)
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, askingKey{}, true), askWithin)
	defer cancel()
	same, err := s.knows(ctx, proven)
	if err == nil && same && latest != proven {
		same, err = s.knows(ctx, latest)
	}
	switch {
	case err != nil:
		return
	case same:
		c.prove(number, latest)
	default:
		got, err := s.client.Get(ctx, nothingKey, clientv3.WithCountOnly())
		if err != nil {
			return
		}
		s.rewind(latest.revision, got.Header.Revision, got.Header.ClusterId, number)
	}
	c.asked.Store(connections)
}

// knows asks etcd whether a change is part of its history. What is compacted it
// may have forgotten, unless the key shows that it goes back. It asks for none,
// too: the answer's revision may show enough.
func (s *Store) knows(ctx context.Context, c landmark) (bool, error) {
	if c.key == "" {
		_, err := s.client.Get(ctx, nothingKey, clientv3.WithCountOnly())
		return err == nil, err
	}
	got, err := s.client.Get(ctx, c.key, clientv3.WithRev(c.revision))
	switch {
	case errors.Is(err, rpctypes.ErrFutureRev):
		return false, nil
	case errors.Is(err, rpctypes.ErrCompacted):
		got, err = s.client.Get(ctx, c.key)
		return err != nil || len(got.Kvs) == 0 || got.Kvs[0].ModRevision >= c.revision, err
	case err != nil:
		return false, err
	}
	return len(got.Kvs) == 1 && got.Kvs[0].ModRevision == c.revision && string(got.Kvs[0].Value) == c.value, nil
}
