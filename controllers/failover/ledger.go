package failover

import (
	"context"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/plan"
)

// unseen is how long an object that this process made may take to show in the cache.
const unseen = 10 * time.Second

// Ledger is every Failover of this installation as this process knows it: the
// cache, what was written here and has not come back yet, and what is being
// created. Without it a judgement that follows a decision at once would decide
// it again.
type Ledger struct {
	cache client.Reader
	ours  v1alpha1.Installation
	now   func() time.Time

	mu      sync.Mutex
	written map[types.NamespacedName]entry
	opening map[string]plan.Active // by server, "namespace/pod"
}

type entry struct {
	fo *v1alpha1.Failover
	at time.Time
}

// NewLedger makes a ledger over the cache, of what is ours.
func NewLedger(cache client.Reader, ours v1alpha1.Installation, now func() time.Time) *Ledger {
	return &Ledger{
		cache: cache, ours: ours, now: now,
		written: map[types.NamespacedName]entry{},
		opening: map[string]plan.Active{},
	}
}

// Owns tells whether a Failover belongs to this installation: where its Presence
// does, or where it says itself if that is gone.
func (l *Ledger) Owns(ctx context.Context, fo *v1alpha1.Failover) (bool, error) {
	var p v1alpha1.Presence
	key := types.NamespacedName{Namespace: fo.Namespace, Name: fo.Spec.Presence}
	err := l.cache.Get(ctx, key, &p, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return l.ours.Owns(fo), nil
	}
	return err == nil && l.ours.Owns(&p), err
}

// All Failovers that are ours, or those of one namespace. They are shared: read
// them only.
func (l *Ledger) All(ctx context.Context, namespace string) ([]*v1alpha1.Failover, error) {
	var list v1alpha1.FailoverList
	if err := l.cache.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	ours := make([]bool, len(list.Items))
	for i := range list.Items {
		var err error
		if ours[i], err = l.Owns(ctx, &list.Items[i]); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*v1alpha1.Failover, 0, len(list.Items)+1)
	seen := map[types.NamespacedName]bool{}
	for i := range list.Items {
		fo := &list.Items[i]
		key := client.ObjectKeyFromObject(fo)
		seen[key] = true
		if ours[i] {
			all = append(all, l.freshest(key, fo))
		}
	}
	for key, e := range l.written {
		switch {
		case seen[key]:
		case l.now().Sub(e.at) > unseen:
			delete(l.written, key)
		case namespace == "" || key.Namespace == namespace:
			all = append(all, e.fo)
		}
	}
	return all, nil
}

// Get one Failover, as it was last known. It is shared: read it only.
func (l *Ledger) Get(ctx context.Context, key types.NamespacedName) (*v1alpha1.Failover, error) {
	var fo v1alpha1.Failover
	err := l.cache.Get(ctx, key, &fo, client.UnsafeDisableDeepCopy)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		return l.freshest(key, &fo), nil
	}
	if e, ok := l.written[key]; ok && client.IgnoreNotFound(err) == nil && l.now().Sub(e.at) <= unseen {
		return e.fo, nil
	}
	return nil, err
}

// freshest is the cached object, or what was written here if that is newer.
// The caller holds mu.
func (l *Ledger) freshest(key types.NamespacedName, cached *v1alpha1.Failover) *v1alpha1.Failover {
	e, ok := l.written[key]
	if !ok {
		return cached
	}
	if e.fo.UID != cached.UID || version(cached) >= version(e.fo) {
		delete(l.written, key)
		return cached
	}
	return e.fo
}

// version orders the states of one object.
func version(fo *v1alpha1.Failover) uint64 {
	v, err := strconv.ParseUint(fo.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// Wrote notes an object as the API server returned it. Only created objects
// may be absent from the cache.
func (l *Ledger) Wrote(fo *v1alpha1.Failover) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written[client.ObjectKeyFromObject(fo)] = entry{fo: fo, at: l.now()}
}

// Forget an object that is known to be deleted.
func (l *Ledger) Forget(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.written, key)
}

// Opening are the Failovers that are being created.
func (l *Ledger) Opening() []plan.Active {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]plan.Active, 0, len(l.opening))
	for _, a := range l.opening {
		all = append(all, a)
	}
	return all
}

// open reserves a server for a Failover that is about to be created; false:
// one is being created already.
func (l *Ledger) open(server string, a plan.Active) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, busy := l.opening[server]; busy {
		return false
	}
	l.opening[server] = a
	return true
}

// opened ends what open began.
func (l *Ledger) opened(server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.opening, server)
}
