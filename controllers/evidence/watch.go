package evidence

import (
	"context"
	"sync"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// Watch fills the book from the store until the context ends. The agents'
// sessions are those of the Presence namespace/NodesPresence.
func (b *Book) Watch(ctx context.Context, s *store.Store, namespace string) error {
	var wg sync.WaitGroup
	follow(ctx, &wg, s.WatchServers(ctx), b.UpdateServers)
	follow(ctx, &wg, s.WatchObservations(ctx), b.UpdateObservations)
	follow(ctx, &wg, s.WatchSuspicions(ctx), b.UpdateSuspicions)
	follow(ctx, &wg, s.WatchPresence(ctx, namespace, NodesPresence), b.UpdateBeats)
	follow(ctx, &wg, s.WatchDirectives(ctx), b.UpdateDirectives)
	follow(ctx, &wg, s.WatchPause(ctx), b.UpdatePause)
	follow(ctx, &wg, s.WatchAssignments(ctx), b.UpdateAssignments)
	follow(ctx, &wg, s.WatchDue(ctx), b.UpdateDue)
	follow(ctx, &wg, s.WatchPenalties(ctx), b.UpdatePenalties)
	wg.Wait()
	return nil
}

// NodesPresence is the name of the Presence that agents beat under.
const NodesPresence = "nodes"

// ByAgent tells whether a session is one that an agent of the installation in a
// namespace beats by. It is no client: it ends with its node, and finds another
// server by itself.
func ByAgent(namespace string, key store.SessionKey) bool {
	return key.Namespace == namespace && key.Presence == NodesPresence
}

func follow[K comparable, V any](ctx context.Context, wg *sync.WaitGroup, updates <-chan store.Update[K, V], apply func(store.Update[K, V])) {
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case u, ok := <-updates:
				if !ok {
					return
				}
				apply(u)
			}
		}
	})
}
