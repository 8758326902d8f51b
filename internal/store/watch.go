package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// pageSize is how many records are listed at a time.
const pageSize = 1000

// view is how one kind of record is read.
type view[K comparable, V any] struct {
	kind  string
	root  string                 // what all keys begin with
	parse func(string) (K, bool) // reads what follows the root
}

// add puts a record into an update. One that has become unreadable is as good as
// deleted.
func (w view[K, V]) add(s *Store, u *updates[K, V], kv *mvccpb.KeyValue, deleted bool) {
	k, ok := w.parse(strings.TrimPrefix(string(kv.Key), w.root))
	if !ok {
		s.unreadable(w.kind, kv, fmt.Errorf("not the key of a %s", w.kind))
		return
	}
	if !deleted {
		if v, ok := decode[V](s, w.kind, kv); ok {
			u.set(k, v)
			return
		}
	}
	u.remove(k)
}

// watch follows all records of a view until ctx or the store ends; then the
// channel is closed.
func watch[K comparable, V any](ctx context.Context, s *Store, w view[K, V]) <-chan Update[K, V] {
	box := newMailbox(&updates[K, V]{})
	s.deliver(ctx, box.run, follower{
		kind: w.kind,
		root: w.root,
		begin: func(ctx context.Context) (int64, error) {
			all := updates[K, V]{reset: true}
			rev, err := s.list(ctx, w.root, func(kv *mvccpb.KeyValue) { w.add(s, &all, kv, false) })
			if err == nil {
				all.revision = rev
				box.put(all.take())
			}
			return rev, err
		},
		changes: func(rev int64, events []*clientv3.Event) {
			some := updates[K, V]{revision: rev}
			for _, e := range events {
				w.add(s, &some, e.Kv, e.Type == mvccpb.Event_DELETE)
			}
			if len(events) > 0 {
				box.put(some.take())
			}
		},
	})
	return box.out
}

// deliver runs a watch's two halves, the one that fills the mailbox and the one
// that empties it, until ctx or the store ends.
func (s *Store) deliver(ctx context.Context, empty func(context.Context), f follower) {
	ctx, cancel := s.bound(ctx)
	s.watching.Add(1)
	s.spawn(func() { s.follow(ctx, f) })
	run := func() {
		defer s.watching.Add(-1)
		defer cancel()
		empty(ctx)
	}
	if !s.spawn(run) {
		run() // the store is closed, and so ctx has ended
	}
}

// follower is what follows a range of keys.
type follower struct {
	kind string
	root string
	// from is the first revision wanted; 0: begin tells.
	from int64
	// begin is called at the beginning (without from) and after each gap. It
	// returns the revision up to which the follower then knows everything.
	begin func(context.Context) (int64, error)
	// changes is called with what happened next, in order, each revision whole;
	// with no events, to say that everything up to rev has been told.
	changes func(rev int64, events []*clientv3.Event)
}

// errGap: etcd has compacted away what comes next, or lost it.
var errGap = errors.New("there is a gap in the history")

func (s *Store) follow(ctx context.Context, f follower) {
	next := f.from
	var wait backoff
	for ctx.Err() == nil {
		turned := s.history.turned() // before begin: what begins is of this history
		if next > s.Revision()+1 {
			next = 0 // it was of a history that is lost
		}
		if next == 0 {
			rev, err := f.begin(ctx)
			if err != nil {
				if wait.sleep(ctx) == nil {
					s.metrics.retries.WithLabelValues(opList).Inc()
				}
				continue
			}
			next = rev + 1
		}
		began := next
		err := s.followOnce(ctx, f, turned, &next)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errGap):
			s.metrics.resets.WithLabelValues(f.kind).Inc()
			s.log.Info("A watch begins again, after a gap", "kind", f.kind, "revision", next)
			next = 0
		default:
			s.log.Debug("A watch was interrupted", "kind", f.kind, "revision", next, "error", err)
		}
		if next > began {
			wait = backoff{} // it got somewhere
		}
		_ = wait.sleep(ctx)
	}
}

// followOnce watches from next on, and keeps it up to date, until the watch
// breaks.
func (s *Store) followOnce(ctx context.Context, f follower, turned <-chan struct{}, next *int64) error {
	ctx, cancel := context.WithCancel(s.watchContext(ctx))
	defer cancel()
	history := s.Rewinds()
	responses := s.client.Watch(ctx, f.root, clientv3.WithPrefix(), clientv3.WithRev(*next), clientv3.WithProgressNotify())
	for {
		var resp clientv3.WatchResponse
		var open bool
		select {
		case <-turned:
			return errGap
		case resp, open = <-responses:
		}
		if !open {
			return errors.New("the watch was closed")
		}
		if err := resp.Err(); err != nil {
			// The client itself resumes a broken watch after its last event, which
			// may be compacted by now although we were told that nothing followed.
			if errors.Is(err, rpctypes.ErrCompacted) && *next < resp.CompactRevision {
				return errGap
			}
			return err
		}
		rev := resp.Header.Revision
		if n := len(resp.Events); n > 0 {
			rev = resp.Events[n-1].Kv.ModRevision // more may be on its way
			s.witness(history, resp.Events)
		} else if !resp.IsProgressNotify() {
			continue
		}
		if rev < *next && len(resp.Events) == 0 {
			continue
		}
		f.changes(rev, resp.Events)
		*next = rev + 1
	}
}

// witness takes note of the latest of these changes that can be asked for.
func (s *Store) witness(history uint32, events []*clientv3.Event) {
	for _, e := range slices.Backward(events) {
		if e.Type == mvccpb.Event_PUT {
			s.canary.witness(history, string(e.Kv.Key), e.Kv.Value, e.Kv.ModRevision)
			return
		}
	}
}

// watchContext is for watches, and what is asked about them. The client has one
// stream for all watches with the same metadata: each history has its own, so
// that what an old one still brings is told from what is new.
func (s *Store) watchContext(ctx context.Context) context.Context {
	number := strconv.FormatUint(uint64(s.Rewinds()), 10)
	return metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), "rollcall-history", number)
}

// list calls each with all records under root, as they were at one revision.
func (s *Store) list(ctx context.Context, root string, each func(*mvccpb.KeyValue)) (int64, error) {
	var rev int64
	history := s.Rewinds()
	end := clientv3.GetPrefixRangeEnd(root)
	for from := root; ; {
		got, err := s.get(ctx, opList, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(rev))
		if err != nil {
			return 0, err
		}
		if rev == 0 {
			rev = got.Header.Revision
		}
		for _, kv := range got.Kvs {
			s.canary.witness(history, string(kv.Key), kv.Value, kv.ModRevision)
			each(kv)
		}
		if !got.More || len(got.Kvs) == 0 {
			return rev, nil
		}
		from = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
	}
}
