package store

import (
	"errors"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestTenThousandSessionsAreWrittenAndFound(t *testing.T) {
	t.Parallel()
	s := openStore(t, storetest.Etcd(t))
	const n = 10_000
	begun := time.Now()
	for i := 0; i < n; i += BucketSize {
		bucket := s.bucket(t, serverA, serverA+".1")
		var writes []SessionWrite
		for j := i; j < min(n, i+BucketSize); j++ {
			writes = append(writes, SessionWrite{Key: numbered(j), Session: session(serverA), Bucket: bucket})
		}
		for len(writes) > 0 {
			batch := writes[:min(MaxBatch, len(writes))]
			results, err := s.WriteSessions(s.ctx, batch)
			if errors.Is(err, ErrUnknownOutcome) {
				continue // the machine is busy: what was written is found to be ours
			}
			if err != nil {
				t.Fatal(err)
			}
			writes = writes[len(batch):]
			for _, r := range results {
				if !r.Won && !r.Ours(serverA+".1") {
					t.Fatalf("lost: %+v", r)
				}
			}
		}
	}
	t.Logf("wrote %d sessions in %v", n, time.Since(begun))
	begun = time.Now()
	found := 0
	for k, err := range s.SessionsOf(s.ctx, serverA, serverA+".1") {
		if err != nil {
			t.Fatal(err)
		}
		if k.Session.Server != serverA || k.Revision == 0 {
			t.Fatalf("found %+v", k)
		}
		found++
	}
	if found != n {
		t.Errorf("found %d of %d", found, n)
	}
	t.Logf("found them in %v", time.Since(begun))
}

// BenchmarkWriteSessions takes sessions over, a full batch at a time: each
// operation is one session.
func BenchmarkWriteSessions(b *testing.B) {
	s := openStore(b, storetest.Etcd(b))
	bucket := s.bucket(b, serverA, serverA+".1")
	revisions := make([]int64, MaxBatch)
	writes := make([]SessionWrite, MaxBatch)
	b.ResetTimer()
	for done := 0; done < b.N; done += MaxBatch {
		for i := range writes {
			writes[i] = SessionWrite{Key: numbered(i), Session: session(serverA), Bucket: bucket, Revision: revisions[i]}
		}
		for i, r := range s.write(b, writes...) {
			if !r.Won {
				b.Fatalf("lost: %+v", r)
			}
			revisions[i] = r.Revision
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}
