package store

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

var errStub = errors.New("being built")

const (
	MinVersion = "3.5.13"
	ServerTTL  = 5 * time.Second
	LeaderTTL  = 2 * time.Second
	MaxBatch   = 127
	BucketSize = 4096
	BucketTTL  = 24 * time.Hour
)

type Config struct {
	Endpoints  []string
	TLS        *tls.Config
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}
type Store struct{}

func Open(ctx context.Context, cfg Config) (*Store, error) { return nil, errStub }
func (s *Store) Close() error                              { return errStub }
func (s *Store) Revision() int64                           { return 0 }
func (s *Store) Sync(ctx context.Context) (int64, error)   { return 0, errStub }
func (s *Store) Away(now time.Time) time.Duration          { return 0 }
func (s *Store) Register(ctx context.Context, server string, rec Server) (*Registration, error) {
	return nil, errStub
}

type Registration struct{}

func (r *Registration) Update(ctx context.Context, rec Server) error { return errStub }
func (r *Registration) Lost() <-chan struct{}                        { return nil }

// Valid tells, cheaply, whether the lease certainly still lives.
func (r *Registration) Valid(now time.Time) bool        { return false }
func (r *Registration) Close(ctx context.Context) error { return errStub }

// BucketID names a bucket.
type BucketID int64

// Bucket holds up to BucketSize sessions of one incarnation.
type Bucket struct {
	ID                  BucketID
	Server, Incarnation string
}

func (s *Store) NewBucket(ctx context.Context, server, incarnation string) (Bucket, error) {
	return Bucket{}, errStub
}

// KeepBuckets renews every bucket of this Store once; the Store does so by itself every 8 h.
func (s *Store) KeepBuckets(ctx context.Context) (gone []BucketID, err error) { return nil, errStub }

type SessionWrite struct {
	Key       SessionKey
	Session   Session
	Revision  int64         // compare ModRevision; 0: must be absent
	Bucket    BucketID      // 0 only for tombstones (Session.Offline): the store gives them a lease that ends Retention later
	Retention time.Duration // of a tombstone; 0: 24 h
	Delete    bool
}
type SessionResult struct {
	Won      bool
	Revision int64
	Current  *Session
}

func (s *Store) WriteSessions(ctx context.Context, writes []SessionWrite) ([]SessionResult, error) {
	return nil, errStub
}
func (s *Store) ReadSessions(ctx context.Context, keys []SessionKey) ([]SessionResult, error) {
	return nil, errStub
}

// KeyedSession is a session with its key and epoch.
type KeyedSession struct {
	Key      SessionKey
	Session  *Session // nil: deleted
	Revision int64
}

func (s *Store) SessionsOf(ctx context.Context, server, incarnation string) iter.Seq2[KeyedSession, error] {
	return nil
}

type SessionEvents struct {
	Revision int64
	Changes  []KeyedSession
	Gap      bool
}

func (s *Store) WatchSessions(ctx context.Context, from int64) (<-chan SessionEvents, error) {
	return nil, errStub
}
func (s *Store) RequestProgress(ctx context.Context) error { return errStub }
func (s *Store) WatchPresence(ctx context.Context, namespace, presence string) <-chan Update[SessionKey, Session] {
	return nil
}
func (s *Store) PutReport(ctx context.Context, report wire.Report) error { return errStub }

type Update[K comparable, V any] struct {
	Reset    bool
	Revision int64
	Put      map[K]V
	Deleted  []K
}
type ObservationKey struct{ Server, Observer string }
type SuspicionKey struct{ Node, Reporter string }

// PauseKey is the one key of WatchPause.
const PauseKey = "pause"

func (s *Store) WatchServers(ctx context.Context) <-chan Update[string, Server] { return nil }
func (s *Store) WatchObservations(ctx context.Context) <-chan Update[ObservationKey, Observation] {
	return nil
}
func (s *Store) WatchSuspicions(ctx context.Context) <-chan Update[SuspicionKey, Suspicion] {
	return nil
}
func (s *Store) WatchDirectives(ctx context.Context) <-chan Update[string, Directive] { return nil }
func (s *Store) WatchPause(ctx context.Context) <-chan Update[string, Pause]          { return nil }
func (s *Store) SetPause(ctx context.Context, p Pause) error                          { return errStub }
func (s *Store) ClearPause(ctx context.Context) error                                 { return errStub }

type Leadership struct{}

func (s *Store) Campaign(ctx context.Context, id string) (*Leadership, error) { return nil, errStub }
func (l *Leadership) Term() int64                                             { return 0 }
func (l *Leadership) Lost() <-chan struct{}                                   { return nil }
func (l *Leadership) Resign(ctx context.Context) error                        { return errStub }
func (l *Leadership) PutDirective(ctx context.Context, server string, d Directive) error {
	return errStub
}
func (l *Leadership) DeleteDirective(ctx context.Context, server, failover string) error {
	return errStub
}
func (l *Leadership) MarkOffline(ctx context.Context, writes []SessionWrite) ([]SessionResult, error) {
	return nil, errStub
}
