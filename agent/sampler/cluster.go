package sampler

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/agent/pods"
	"github.com/rollcall-dev/rollcall/agent/sever"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// +kubebuilder:rbac:groups=rollcall.dev,resources=presences;failovers,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch

// settle is how long changes are waited for that follow the first.
const settle = 50 * time.Millisecond

// KubeCluster is the Cluster of a Kubernetes API. It watches Presences and Failovers, the pods of
// its own node, and those of the installation's observers.
type KubeCluster struct {
	ours v1alpha1.Installation
	node string
	// here has Presences, Failovers and this node's pods, observers the observers' pods.
	here, observers cache.Cache
	dirty, changed  chan struct{} // cap 1

	targets   atomic.Pointer[[]Target]
	addresses atomic.Pointer[map[netip.Addr]bool]
	moving    atomic.Pointer[map[types.NamespacedName]bool]
	doubted   atomic.Pointer[map[string]bool]
}

var _ Cluster = (*KubeCluster)(nil)

// NewCluster prepares to watch the API of config. Nothing is asked before Run.
func NewCluster(config *rest.Config, ours v1alpha1.Installation, node string) (*KubeCluster, error) {
	k := &KubeCluster{ours: ours, node: node, dirty: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	k.targets.Store(&[]Target{})
	k.addresses.Store(&map[netip.Addr]bool{})
	k.moving.Store(&map[types.NamespacedName]bool{})
	k.doubted.Store(&map[string]bool{})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("sampler: %w", err)
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil) // so that an API that is away need not be asked
	for _, list := range []string{"", "List"} {
		mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"+list), meta.RESTScopeNamespace)
		mapper.Add(v1alpha1.GroupVersion.WithKind("Presence"+list), meta.RESTScopeNamespace)
		mapper.Add(v1alpha1.GroupVersion.WithKind("Failover"+list), meta.RESTScopeNamespace)
	}
	observers, err := labels.Parse(sever.Observers)
	if err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	watch := func(objects map[client.Object]cache.ByObject) (cache.Cache, error) {
		c, err := cache.New(config, cache.Options{Scheme: scheme, Mapper: mapper, ByObject: objects, ReaderFailOnMissingInformer: true})
		if err != nil {
			return nil, fmt.Errorf("sampler: cache of the Kubernetes API: %w", err)
		}
		return c, nil
	}
	k.here, err = watch(map[client.Object]cache.ByObject{
		&v1alpha1.Presence{}: {},
		&v1alpha1.Failover{}: {Transform: stripFailover},
		&corev1.Pod{}:        {Field: fields.OneTermEqualSelector("spec.nodeName", node), Transform: pods.Strip},
	})
	if err != nil {
		return nil, err
	}
	k.observers, err = watch(map[client.Object]cache.ByObject{
		&corev1.Pod{}: {Namespaces: map[string]cache.Config{ours.Namespace: {}}, Label: observers, Transform: pods.Strip},
	})
	return k, err
}

// Targets implements Cluster.
func (k *KubeCluster) Targets() []Target { return *k.targets.Load() }

// Observers implements Cluster.
func (k *KubeCluster) Observers() map[netip.Addr]bool { return *k.addresses.Load() }

// Moving implements Cluster.
func (k *KubeCluster) Moving(presence types.NamespacedName) bool { return (*k.moving.Load())[presence] }

// Doubted implements Cluster.
func (k *KubeCluster) Doubted(server string) bool { return (*k.doubted.Load())[server] }

// Changed implements Cluster.
func (k *KubeCluster) Changed() <-chan struct{} { return k.changed }

// Run watches until ctx ends.
func (k *KubeCluster) Run(ctx context.Context) error {
	for _, watched := range []struct {
		in   cache.Cache
		kind client.Object
	}{{k.here, &v1alpha1.Presence{}}, {k.here, &v1alpha1.Failover{}}, {k.here, &corev1.Pod{}}, {k.observers, &corev1.Pod{}}} {
		informer, err := watched.in.GetInformer(ctx, watched.kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("sampler: watch %T: %w", watched.kind, err)
		}
		changed := toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { poke(k.dirty) }, DeleteFunc: func(any) { poke(k.dirty) },
			UpdateFunc: func(before, after any) {
				if !sameMove(before, after) {
					poke(k.dirty)
				}
			},
		}
		if _, err := informer.AddEventHandler(changed); err != nil {
			return fmt.Errorf("sampler: watch %T: %w", watched.kind, err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return k.here.Start(ctx) })
	group.Go(func() error { return k.observers.Start(ctx) })
	group.Go(func() error { return k.follow(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("sampler: watch the Kubernetes API: %w", err)
	}
	return nil
}

// follow keeps what is known up to date, once all is: connections of observers
// that are not known yet would count as clients'.
func (k *KubeCluster) follow(ctx context.Context) error {
	if !k.here.WaitForCacheSync(ctx) || !k.observers.WaitForCacheSync(ctx) {
		return nil
	}
	for {
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.dirty:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// look reads the caches.
func (k *KubeCluster) look(ctx context.Context) error {
	var presences v1alpha1.PresenceList
	var failovers v1alpha1.FailoverList
	var here, observers corev1.PodList
	for _, read := range []struct {
		from cache.Cache
		list client.ObjectList
	}{{k.here, &presences}, {k.here, &failovers}, {k.here, &here}, {k.observers, &observers}} {
		if err := read.from.List(ctx, read.list, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("list %T: %w", read.list, err)
		}
	}
	now := moving(failovers.Items)
	k.moving.Store(&now)
	worse := doubted(presences.Items)
	k.doubted.Store(&worse)
	addresses := map[netip.Addr]bool{}
	for i := range observers.Items {
		for _, a := range pods.AddressesOf(&observers.Items[i]) {
			addresses[a] = true
		}
	}
	if !maps.Equal(addresses, *k.addresses.Load()) {
		k.addresses.Store(&addresses)
	}
	if targets := compose(presences.Items, here.Items, k.ours, k.node); !slices.EqualFunc(targets, *k.targets.Load(), Target.equal) {
		k.targets.Store(&targets)
		poke(k.changed)
	}
	return nil
}

// stripFailover keeps of a Failover whether it moves clients, and whose.
func stripFailover(o any) (any, error) {
	fo, ok := o.(*v1alpha1.Failover)
	if !ok {
		return o, nil
	}
	slim := &v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Namespace: fo.Namespace, Name: fo.Name, UID: fo.UID, ResourceVersion: fo.ResourceVersion}}
	slim.Spec.Presence = fo.Spec.Presence
	if c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionProcessing); c != nil {
		slim.Status.Conditions = []metav1.Condition{{Type: c.Type, Status: c.Status, Reason: c.Reason}}
	}
	return slim, nil
}

// sameMove tells whether nothing has changed of a Failover that is looked at here:
// its counts change all the time.
func sameMove(before, after any) bool {
	a, ok := before.(*v1alpha1.Failover)
	if !ok {
		return false
	}
	b, ok := after.(*v1alpha1.Failover)
	return ok && a.UID == b.UID && slices.Equal(a.Status.Conditions, b.Status.Conditions)
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
