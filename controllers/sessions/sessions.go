// Package sessions finds where a client is, in the store. It reads records of
// clients that are named in full, and lists none.
package sessions

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/controllers/explain"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Finder is an explain.Finder over the store. Both fields are needed.
type Finder struct {
	Store *store.Store
	// Presences are those of clients, "namespace/name", in the order of answers.
	Presences func() []string
}

// Find reads one client's records through etcd's quorum.
func (f Finder) Find(ctx context.Context, client string, presences []string) ([]explain.Session, error) {
	if len(presences) == 0 {
		presences = f.Presences()
	}
	keys := make([]store.SessionKey, 0, len(presences))
	for _, p := range presences {
		namespace, name, err := wire.ParseUserName(p)
		if err != nil {
			return nil, err
		}
		keys = append(keys, store.SessionKey{Namespace: namespace, Presence: name, Client: client})
	}
	results, err := f.Store.ReadSessions(ctx, keys)
	if err != nil {
		return nil, err
	}
	found := []explain.Session{}
	for i, r := range results {
		if r.Current == nil || r.Current.Server == "" { // none, or unreadable, which the store has logged
			continue
		}
		s := explain.Session{
			Presence: presences[i], Server: r.Current.Server, Online: !r.Current.Offline,
			Since: time.UnixMilli(r.Current.Since).UTC(),
			Interval: metav1.Duration{
				Duration: time.Duration(r.Current.Interval) * time.Millisecond,
			},
		}
		if r.Current.LastSeen > 0 {
			s.LastSeen = time.UnixMilli(r.Current.LastSeen).UTC()
		}
		found = append(found, s)
	}
	return found, nil
}
