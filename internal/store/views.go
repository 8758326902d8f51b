package store

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ObservationKey names what one observer (a node) says of one server.
type ObservationKey struct{ Server, Observer string }

// SuspicionKey names what one reporter (a node) says of one node.
type SuspicionKey struct{ Node, Reporter string }

// PauseKey is the one key of WatchPause.
const PauseKey = "pause"

var (
	servers      = view[string, Server]{kindServer, serversRoot, parseServer}
	observations = view[ObservationKey, Observation]{kindObservation, observationsRoot, parseObservation}
	suspicions   = view[SuspicionKey, Suspicion]{kindSuspicion, suspicionsRoot, parseSuspicion}
	directives   = view[string, Directive]{kindDirective, directivesRoot, parseServer}
	assignments  = view[string, Assignment]{kindAssignment, assignmentsRoot, parseServer}
	penalties    = view[string, Penalty]{kindPenalty, penaltiesRoot, parseServer}
	due          = view[string, Due]{kindDue, dueRoot, parseServer}
	pauses       = view[string, Pause]{kindPause, pauseKey, func(rest string) (string, bool) { return PauseKey, rest == "" }}
)

// All watches begin with everything there is (Reset), then tell changes; after a
// gap, everything again. A slow reader gets changes merged. Their channels are
// closed when ctx or the store ends.

// WatchServers follows the servers' own records, by "namespace/pod".
func (s *Store) WatchServers(ctx context.Context) <-chan Update[string, Server] {
	return watch(ctx, s, servers)
}

// WatchObservations follows what observers say of servers.
func (s *Store) WatchObservations(ctx context.Context) <-chan Update[ObservationKey, Observation] {
	return watch(ctx, s, observations)
}

// WatchSuspicions follows what reporters say of nodes.
func (s *Store) WatchSuspicions(ctx context.Context) <-chan Update[SuspicionKey, Suspicion] {
	return watch(ctx, s, suspicions)
}

// WatchDirectives follows the directives, by server.
func (s *Store) WatchDirectives(ctx context.Context) <-chan Update[string, Directive] {
	return watch(ctx, s, directives)
}

// Directive is the one that stands for a server, as etcd's majority has it now;
// false: there is none. It tries again until etcd answers or ctx ends.
func (s *Store) Directive(ctx context.Context, server string) (Directive, bool, error) {
	got, err := s.get(ctx, opRead, directivesRoot+server)
	if err != nil || len(got.Kvs) == 0 {
		return Directive{}, false, err
	}
	d, ok := decode[Directive](s, kindDirective, got.Kvs[0])
	return d, ok, nil
}

// WatchPause follows the stop switch: PauseKey, or nothing.
func (s *Store) WatchPause(ctx context.Context) <-chan Update[string, Pause] {
	return watch(ctx, s, pauses)
}

// WatchPresence follows the sessions of one Presence, tombstones included.
func (s *Store) WatchPresence(ctx context.Context, namespace, presence string) <-chan Update[SessionKey, Session] {
	return watch(ctx, s, view[SessionKey, Session]{
		kind: kindSession,
		root: sessionsRoot + namespace + "/" + presence + "/",
		parse: func(client string) (SessionKey, bool) {
			k := SessionKey{Namespace: namespace, Presence: presence, Client: client}
			return k, k.validate() == nil
		},
	})
}

// SetPause stops all moving of clients until ClearPause.
func (s *Store) SetPause(ctx context.Context, p Pause) error {
	value, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("store: encode pause: %w", err)
	}
	return s.retry(ctx, opPause, func(ctx context.Context) error {
		_, err := s.client.Put(ctx, pauseKey, string(value))
		return err
	})
}

// ClearPause takes the stop switch back. Where there is none, it does nothing.
func (s *Store) ClearPause(ctx context.Context) error {
	return s.retry(ctx, opPause, func(ctx context.Context) error {
		_, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(pauseKey), ">", 0)).
			Then(clientv3.OpDelete(pauseKey)).
			Commit()
		return err
	})
}
