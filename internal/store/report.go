package store

import ("context"; "github.com/rollcall-dev/rollcall/internal/wire")
type reports struct{}
const (reportTaken="taken"; reportStale="stale")
func (s *Store) PutReport(ctx context.Context, report wire.Report) error { return nil }
