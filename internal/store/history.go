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
	// but for a rewind. Written under mu.
	seen atomic.Int64
	// number of this history: how often etcd was rewound. Written under mu.
	number atomic.Uint32
	// cluster is etcd's id of itself; 0: not known yet. Written under mu.
	cluster atomic.Uint64

	mu      sync.Mutex
	rewound chan struct{} // closed, and replaced, at a rewind
	told    []func()      // called at a rewind
}

func (h *history) init() { h.rewound = make(chan struct{}) }

// see takes note of a revision that an answer has shown, to a question of the
// history with that number. The answers of an earlier one count no more.
func (h *history) see(rev int64, number uint32) {
	if rev <= h.seen.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if number == h.number.Load() && rev > h.seen.Load() {
		h.seen.Store(rev)
	}
}

// turned is closed at the next rewind.
func (h *history) turned() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rewound
}

// another tells whether an answer comes from another history than the one known:
// a read through the quorum shows a lower revision than was known before it
// began, or it is another cluster that answers. Then etcd was wiped, or restored
// from a backup, and every watch must begin again.
//
// A backup that has got past the revision known here, under the same cluster
// token, does not show by that: see canary.
func (h *history) another(known, rev int64, cluster uint64, number uint32) bool {
	was := h.cluster.Load()
	if was == 0 && cluster != 0 {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.cluster.Load() == 0 && h.number.Load() == number {
			h.cluster.Store(cluster)
		}
		was = h.cluster.Load()
	}
	return rev < known || cluster != 0 && cluster != was
}

// rewind takes note of another history. It returns once everybody who wants to
// know has been told.
func (s *Store) rewind(known, rev int64, cluster uint64, number uint32) {
	h := &s.history
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.number.Load() != number {
		return // another answer has told already
	}
	// Told twice: whoever looks between sees that something has changed, and
	// whoever looks later that nothing from between counts.
	h.tell()
	h.number.Add(1)
	h.seen.Store(rev)
	h.cluster.Store(cluster)
	h.tell()
	close(h.rewound)
	h.rewound = make(chan struct{})
	s.metrics.rewinds.Inc()
	s.log.Error("Etcd has lost history: it was wiped or restored", "knownRevision", known, "revision", rev)
}

func (h *history) tell() {
	for _, f := range h.told {
		f()
	}
}

// OnRewind has f called whenever etcd turns out to have lost history: what is
// known by revisions counts no more. It is called before the answer that showed
// it returns, twice, just before and just after Revision goes down. It must not
// wait, nor ask the Store for anything but Revision and Rewinds.
func (s *Store) OnRewind(f func()) {
	s.history.mu.Lock()
	defer s.history.mu.Unlock()
	s.history.told = append(s.history.told, f)
}

// Rewinds is how often etcd has lost history. Revisions can be compared only
// where this was the same.
func (s *Store) Rewinds() uint32 { return s.history.number.Load() }

// header is what all of etcd's answers have.
type header interface{ GetHeader() *pb.ResponseHeader }

// seeUnary notes of each answer that etcd answers, and at which revision; of
// each failure, whether the request was sent.
//
//nolint:revive // the signature is gRPC's
func (s *Store) seeUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	number := s.Rewinds() // before known
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
		cluster := reply.(header).GetHeader().GetClusterId()
		if strings.HasPrefix(method, "/etcdserverpb.KV/") && s.history.another(known, rev, cluster, number) {
			s.rewind(known, rev, cluster, number)
		}
		s.recognise(ctx)
		s.history.see(rev, number)
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
	number := s.Rewinds()
	stream, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return seenStream{stream, &s.history, number}, nil
}

type seenStream struct {
	grpc.ClientStream
	history *history
	number  uint32
}

func (s seenStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.history.see(revisionOf(m), s.number)
	}
	return err
}
