package sessions

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/controllers/explain"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestAClientIsFoundUnderEveryPresenceThatKnowsIt(t *testing.T) {
	ctx := t.Context()
	s, err := store.Open(ctx, store.Config{
		Endpoints: storetest.Etcd(t), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	bucket, err := s.NewBucket(ctx, "im/server-1", "u.1")
	if err != nil {
		t.Fatal(err)
	}
	since := time.UnixMilli(1_700_000_000_000).UTC()
	online := store.Session{Server: "im/server-1", Incarnation: "u.1", Principal: "secret", Since: since.UnixMilli(), Interval: 30_000}
	left := store.Session{Server: "im/server-2", Incarnation: "u.2", Offline: true, Since: since.UnixMilli(), LastSeen: since.Add(-time.Minute).UnixMilli()}
	results, err := s.WriteSessions(ctx, []store.SessionWrite{
		{Key: store.SessionKey{Namespace: "im", Presence: "android", Client: "c1"}, Session: online, Bucket: bucket.ID},
		{Key: store.SessionKey{Namespace: "im", Presence: "ios", Client: "c1"}, Session: left},
		{Key: store.SessionKey{Namespace: "im", Presence: "android", Client: "c2"}, Session: online, Bucket: bucket.ID},
	})
	if err != nil || !results[0].Won || !results[1].Won {
		t.Fatalf("%v, %v", results, err)
	}

	f := Finder{Store: s, Presences: func() []string { return []string{"im/android", "im/ios", "im/web"} }}
	here := explain.Session{Presence: "im/android", Server: "im/server-1", Online: true, Since: since, Interval: metav1.Duration{Duration: 30 * time.Second}}
	gone := explain.Session{Presence: "im/ios", Server: "im/server-2", Since: since, LastSeen: since.Add(-time.Minute)}
	for _, tt := range []struct {
		name, client string
		presences    []string
		want         []explain.Session
	}{
		{"under all", "c1", nil, []explain.Session{here, gone}},
		{"under one", "c1", []string{"im/ios"}, []explain.Session{gone}},
		{"under one that does not know it", "c1", []string{"im/web"}, []explain.Session{}},
		{"nobody", "c3", nil, []explain.Session{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := f.Find(ctx, tt.client, tt.presences)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
