package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ServerTTL is the TTL of a heartbeat server's own record.
const ServerTTL = 5 * time.Second

// Registration is a server's record in etcd, under a lease that is kept alive.
type Registration struct {
	path  string
	lease *tenure
}

// Register writes the record of a server, "namespace/pod", in place of whatever
// an earlier incarnation left there. It tries until it succeeds or ctx ends.
func (s *Store) Register(ctx context.Context, server string, rec Server) (*Registration, error) {
	if err := validServer(server); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("store: encode server: %w", err)
	}
	path := serversRoot + server
	var (
		id    clientv3.LeaseID
		ttl   time.Duration
		asked time.Time
	)
	// A lease of its own for each try: one that was slow to be used may have ended.
	if err := s.retry(ctx, opServer, func(ctx context.Context) (err error) {
		asked = s.clock()
		if id, ttl, err = s.grant(ctx, ServerTTL); err != nil {
			return err
		}
		_, err = s.client.Put(ctx, path, string(value), clientv3.WithLease(id))
		return err
	}); err != nil {
		return nil, err
	}
	return &Registration{path: path, lease: s.hold(id, kindServer, asked, ttl)}, nil
}

// Update rewrites the record. ErrLost: the lease has ended, or another
// incarnation has registered under the name; then Lost is closed as well.
func (r *Registration) Update(ctx context.Context, rec Server) error {
	value, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("store: encode server: %w", err)
	}
	s := r.lease.s
	err = s.retry(ctx, opServer, func(ctx context.Context) error {
		if !r.lease.valid(s.clock()) {
			return ErrLost
		}
		// The key hangs on our lease for as long as it is ours.
		resp, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.LeaseValue(r.path), "=", r.lease.id)).
			Then(clientv3.OpPut(r.path, string(value), clientv3.WithLease(r.lease.id))).
			Commit()
		if err == nil && !resp.Succeeded {
			r.lease.gone("The record is not ours any more")
			r.lease.finish()
			return ErrLost
		}
		return err
	})
	return err
}

// Valid tells, without asking etcd, whether the lease certainly still lives. It
// is false from the moment when the lease may have ended, also in a process that
// was stopped and has not noticed yet.
func (r *Registration) Valid(now time.Time) bool { return r.lease.valid(now) }

// Lost is closed when the lease has ended: it expired, was revoked, or could not
// be renewed within its TTL by this process's clock.
func (r *Registration) Lost() <-chan struct{} { return r.lease.lost }

// Close gives the lease up: the record disappears at once.
func (r *Registration) Close(ctx context.Context) error { return r.lease.give(ctx) }
