package store

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxWaiting bounds the changes of sessions that wait for a slow reader, in
// clients; beyond it they are dropped, and the reader is told of a Gap.
const maxWaiting = 1 << 17

// KeyedSession is a session's record with its key.
type KeyedSession struct {
	Key      SessionKey
	Session  *Session // nil: deleted
	Revision int64    // of the change
}

// SessionEvents are changes of sessions, at most one per client: the latest.
type SessionEvents struct {
	// Revision up to which all changes have been told.
	Revision int64
	Changes  []KeyedSession
	// Gap: changes before these, up to Revision, may have been missed.
	Gap bool
	// History is the number (Rewinds) of the history that Revision is of. When it
	// has changed, Gap is set too, and no revision told before counts any more.
	History uint32
}

// sessionEvents merges events, and holds no more than maxWaiting clients.
type sessionEvents struct {
	SessionEvents
	latest map[SessionKey]int // where a client's change is
}

func (g *sessionEvents) add(e SessionEvents) {
	if e.Gap {
		*g = sessionEvents{SessionEvents: SessionEvents{Gap: true}}
	}
	g.Revision, g.History = e.Revision, e.History
	for _, c := range e.Changes {
		if i, ok := g.latest[c.Key]; ok {
			g.Changes[i] = c
			continue
		}
		if g.latest == nil || len(g.Changes) >= maxWaiting {
			g.Gap = g.Gap || len(g.Changes) >= maxWaiting
			g.Changes, g.latest = nil, make(map[SessionKey]int)
		}
		g.latest[c.Key] = len(g.Changes)
		g.Changes = append(g.Changes, c)
	}
}

func (g *sessionEvents) take() SessionEvents {
	e := g.SessionEvents
	*g = sessionEvents{}
	return e
}

// WatchSessions follows the changes of all sessions, from a revision on; 0: from
// now. The first events tell the revision before that, without changes; progress
// is told likewise, so that whoever has called Sync can wait until it has seen
// everything up to there (RequestProgress makes that soon). The channel is
// closed when ctx or the store ends.
func (s *Store) WatchSessions(ctx context.Context, from int64) (<-chan SessionEvents, error) {
	if from == 0 {
		now, err := s.Sync(ctx)
		if err != nil {
			return nil, err
		}
		from = now + 1
	}
	box := newMailbox(&sessionEvents{})
	history := s.Rewinds() // what is told is of; a rewind makes it begin again
	box.put(SessionEvents{Revision: from - 1, History: history})
	s.deliver(ctx, box.run, follower{
		kind: kindSession,
		root: sessionsRoot,
		from: from,
		begin: func(ctx context.Context) (int64, error) {
			history = s.Rewinds()
			now, err := s.Sync(ctx)
			if err == nil {
				box.put(SessionEvents{Revision: now, Gap: true, History: history})
			}
			return now, err
		},
		changes: func(rev int64, events []*clientv3.Event) {
			e := SessionEvents{Revision: rev, History: history}
			for _, ev := range events {
				if c, ok := s.sessionChange(ev); ok {
					e.Changes = append(e.Changes, c)
				}
			}
			box.put(e)
		},
	})
	return box.out, nil
}

func (s *Store) sessionChange(e *clientv3.Event) (KeyedSession, bool) {
	key, ok := parseSession(strings.TrimPrefix(string(e.Kv.Key), sessionsRoot))
	if !ok {
		s.unreadable(kindSession, e.Kv, errors.New("not the key of a session"))
		return KeyedSession{}, false
	}
	c := KeyedSession{Key: key, Revision: e.Kv.ModRevision}
	if e.Type != mvccpb.Event_DELETE {
		// An unreadable record is nobody's; that much is known.
		session, _ := decode[Session](s, kindSession, e.Kv)
		c.Session = &session
	}
	return c, true
}

// RequestProgress asks etcd to tell every watch of this Store how far it is:
// WatchSessions passes it on, once everything before has been told. etcd keeps
// silent while a watch is behind, so ask again if need be.
func (s *Store) RequestProgress(ctx context.Context) error {
	if s.watching.Load() == 0 {
		return nil
	}
	return s.client.RequestProgress(s.watchContext(ctx))
}
