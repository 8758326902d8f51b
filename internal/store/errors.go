package store

import (
	"errors"
	"fmt"
)

var (
	// ErrNotLeader: a guarded write was refused because the leadership has ended. Nothing was written.
	ErrNotLeader = errors.New("not the leader any more")
	// ErrTooMany: more writes than fit into one transaction. Nothing was sent.
	ErrTooMany = fmt.Errorf("more than %d in one batch", MaxBatch)
	// ErrUnknownOutcome: a transaction was sent and its answer never came. It
	// may have been applied, or may yet be: read, and adopt what is ours.
	ErrUnknownOutcome = errors.New("the outcome is unknown")
	// ErrLost: the lease that a write depends on has ended. Nothing was written.
	ErrLost = errors.New("the lease has ended")
	// ErrTooOld: an etcd server is older than MinVersion.
	ErrTooOld = errors.New("etcd is too old")
)

// errChanged: a record changed between being read and being written.
var errChanged = errors.New("the record has changed meanwhile")

// BucketGoneError says that a batch was refused whole because buckets that it
// names have ended. Nothing was written: get other buckets and write again.
type BucketGoneError struct{ Buckets []BucketID }

func (e *BucketGoneError) Error() string {
	return fmt.Sprintf("%d session bucket(s) have ended", len(e.Buckets))
}
