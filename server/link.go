package server

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/rollcall-dev/rollcall/server/session"
)

// maxPending bounds what waits for a client that does not read, beyond what the
// kernel takes, in bytes. Whoever lets more pile up is cut off.
const maxPending = 64 << 10

var errNotReading = errors.New("the client does not read what it is sent")

// link is the way back to one client, whatever carries it. Its methods never
// wait, and may be called by anyone, one at a time.
type link interface {
	// write sends b. An error means that the client does not read the little
	// that it is sent, or is gone.
	write(b []byte) error
	// unsent is how much of what was written the kernel has not taken yet, in
	// bytes: at most maxPending.
	unsent() int
	// finish closes the connection once what was written has been read, or a
	// moment later.
	finish()
	// abort closes it now.
	abort()
	// remote is the address of the other end, empty once the connection is closed.
	remote() string
}

// loopLink is a link whose feeder must never wait, because it feeds others too.
type loopLink interface {
	link
	// elsewhere has work done by somebody else, and done by the feeder after
	// that. Meanwhile the peer is not fed. Only the feeder calls it.
	elsewhere(work, done func())
}

// moment is what is known of when some bytes were read.
type moment struct {
	// stamp was taken before the read, and so was revision, the highest
	// revision of the store that was known then.
	stamp    session.Stamp
	revision int64
	// trusted: the connection was found empty since this process was last
	// stopped, so that what is read is no older than that.
	trusted bool
	// read is when the read returned: how long the answer takes counts from here.
	read time.Time
}

// proof is the revision against which a packet of this moment proves that its
// client is here; 0: none.
func (m moment) proof() int64 {
	if !m.trusted {
		return 0
	}
	return m.revision
}

// carrier accepts connections and feeds what they bring to peers.
type carrier interface {
	Addr() net.Addr
	// Run accepts until the context ends, and returns when every connection is
	// closed. For each it calls accept, feeds the peer from one goroutine at a
	// time, and calls gone at last.
	Run(ctx context.Context, accept func(l link) *peer) error
	// Close gives the address back, where Run was not called.
	Close() error
}
