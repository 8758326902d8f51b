package server

import (
	"context"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

// revalidate ends the sessions whose principals have lost a right that they
// were let in with, every now and then until the context ends.
func (s *Server) revalidate(ctx context.Context) error {
	r, ok := s.cfg.Authenticator.(Revalidator)
	if !ok {
		return nil // nobody's rights change
	}
	tick := time.NewTicker(s.cfg.RevalidateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.sweep(r)
			s.stillMay()
		}
	}
}

// sweep asks about each principal of each Presence once. A session without a
// connection is left, unless it beats by datagrams: whoever comes back to it is
// authenticated.
func (s *Server) sweep(r Revalidator) {
	type held struct {
		class     *session.Class
		principal string
	}
	now := map[held]Rights{}
	s.table.Each(func(v session.View[peer]) bool {
		given := Rights(v.Rights)
		if v.Link == nil {
			if !v.Datagrams {
				return true
			}
			given &= Connect | Impersonate // nothing else can be done by datagram
		}
		h := held{v.Class, v.Principal}
		rights, asked := now[h]
		if !asked {
			rights = r.Revalidate(v.Class.Namespace, v.Class.Presence, v.Principal)
			now[h] = rights
		}
		if !rights.Has(given) {
			s.revoke(v)
		}
		return true
	})
}

// revoke ends a session for good: it is offline at once.
func (s *Server) revoke(held session.View[peer]) {
	v, ok := s.table.Drop(held.Class, held.Client, held.Arrival)
	if !ok {
		return // it has ended, or gone on with another connection
	}
	s.metrics.revoked.Inc()
	s.log.Debug("Session was ended, a right was taken back", "presence", v.Class.Name(), "client", v.Client)
	if !v.Class.Probe {
		now := time.Now()
		s.recorder.Offline(store.SessionKey{Namespace: v.Class.Namespace, Presence: v.Class.Presence, Client: v.Client}, v.Arrival, now, now)
	}
	if v.Link != nil {
		v.Link.goodbye(mqtt.Goodbye{Reason: mqtt.NotAuthorized, Text: "the right to be here was taken back"})
	}
}
