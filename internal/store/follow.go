package store

import (
	"context"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// PresenceChanges are changes of one Presence's sessions, in the order in which
// they were made.
type PresenceChanges struct {
	// Revision up to which everything has been told.
	Revision int64
	Changes  []KeyedSession
	// Gap: what happened before, up to Revision, may have been missed. The first
	// of all has it set.
	Gap bool
	// History is the number (Rewinds) of the history that Revision is of.
	History uint32
}

func presenceRoot(namespace, presence string) string {
	return sessionsRoot + namespace + "/" + presence + "/"
}

// FollowPresence calls f with every change of a Presence's sessions, none merged
// with another, until ctx or the store ends. f must not wait.
func (s *Store) FollowPresence(ctx context.Context, namespace, presence string, f func(PresenceChanges)) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	s.watching.Add(1)
	defer s.watching.Add(-1)
	var history uint32
	s.follow(ctx, follower{
		kind: kindSession,
		root: presenceRoot(namespace, presence),
		begin: func(ctx context.Context) (int64, error) {
			history = s.Rewinds()
			now, err := s.Sync(ctx)
			if err == nil {
				f(PresenceChanges{Revision: now, Gap: true, History: history})
			}
			return now, err
		},
		changes: func(rev int64, events []*clientv3.Event) {
			told := PresenceChanges{Revision: rev, History: history}
			for _, e := range events {
				if c, ok := s.sessionChange(e); ok {
					told.Changes = append(told.Changes, c)
				}
			}
			f(told)
		},
	})
}

// ListPresence calls each with every session of a Presence, tombstones included,
// as they were at the revision that it returns. It holds a page at a time; each
// may take its time, and ends the listing with an error. Who takes longer than
// etcd keeps its past (a minute) is told so with an error.
func (s *Store) ListPresence(ctx context.Context, namespace, presence string, each func(KeyedSession) error) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	rev, err := s.list(ctx, presenceRoot(namespace, presence), func(kv *mvccpb.KeyValue) {
		key, ok := parseSession(strings.TrimPrefix(string(kv.Key), sessionsRoot))
		if !ok || failed != nil {
			return
		}
		session, ok := decode[Session](s, kindSession, kv)
		if !ok {
			return // nobody's, and nobody is here by it
		}
		if failed = each(KeyedSession{Key: key, Session: &session, Revision: kv.ModRevision}); failed != nil {
			cancel()
		}
	})
	if failed != nil {
		return 0, failed
	}
	return rev, err
}
