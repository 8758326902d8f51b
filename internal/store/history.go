package store

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// history is what this process knows of etcd's revisions.
type history struct {
	// seen is the highest revision that any answer has shown. It only grows,
	// but for a rewind.
	seen atomic.Int64

	mu      sync.Mutex
	rewound chan struct{} // closed, and replaced, at a rewind
}

func (h *history) init() { h.rewound = make(chan struct{}) }

func (h *history) see(rev int64) {
	for {
		old := h.seen.Load()
		if rev <= old || h.seen.CompareAndSwap(old, rev) {
			return
		}
	}
}

// turned is closed at the next rewind.
func (h *history) turned() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rewound
}

// rewind: a read through the quorum shows a lower revision than was known before
// it began. That cannot happen to one history: etcd was wiped, or restored from
// a backup, and every watch must begin again.
func (s *Store) rewind(known, rev int64) {
	h := &s.history
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen.Load() < known {
		return // another answer has told already
	}
	h.seen.Store(rev)
	close(h.rewound)
	h.rewound = make(chan struct{})
	s.metrics.rewinds.Inc()
	s.log.Error("Etcd has lost history: it was wiped or restored", "knownRevision", known, "revision", rev)
}

// header is what all of etcd's answers have.
type header interface{ GetHeader() *pb.ResponseHeader }

// seeUnary notes of each answer that etcd answers, and at which revision; of
// each failure, whether the request was sent.
//
//nolint:revive // the signature is gRPC's
func (s *Store) seeUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	known, asked := s.Revision(), s.clock()
	var p peer.Peer
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Peer(&p))...)
	if on, ok := ctx.Value(sentKey{}).(*sent); ok && (err == nil || p.Addr != nil) {
		on.yes = true
	}
	if err != nil || strings.HasPrefix(method, "/etcdserverpb.Maintenance/") {
		return err // Maintenance answers without the quorum
	}
	s.pulse.answered(asked)
	if rev := revisionOf(reply); rev > 0 {
		if rev < known && strings.HasPrefix(method, "/etcdserverpb.KV/") {
			s.rewind(known, rev)
		}
		s.history.see(rev)
	}
	return nil
}

func revisionOf(reply any) int64 {
	if h, ok := reply.(header); ok {
		return h.GetHeader().GetRevision()
	}
	return 0
}

// seeStream notes the revision of everything that watches and lease renewals
// bring.
func (s *Store) seeStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return seenStream{stream, &s.history}, nil
}

type seenStream struct {
	grpc.ClientStream
	history *history
}

func (s seenStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.history.see(revisionOf(m))
	}
	return err
}
