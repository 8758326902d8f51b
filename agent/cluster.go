package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/agent/pods"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// +kubebuilder:rbac:groups=rollcall.dev,resources=presences,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=pods;nodes,verbs=get;list;watch

// Agents' pods have this label, and name their port for gossip so.
const (
	AgentLabel      = "app.kubernetes.io/component"
	AgentLabelValue = "agent"
	GossipPort      = "gossip"
)

// settleTime is how long changes of the API are gathered.
const settleTime = 50 * time.Millisecond

// KubeCluster is the Cluster of a Kubernetes API. It watches nodes, Presences and
// the agents' pods, and for each Presence of servers just the pods that its
// selector picks: every agent has these watches, so they must not see every pod.
type KubeCluster struct {
	ours   v1alpha1.Installation
	config *rest.Config
	http   *http.Client
	mapper meta.RESTMapper
	scheme *runtime.Scheme
	log    *slog.Logger
	api    client.Client // asked for Secrets, which are not watched: the right to get one is enough

	base  cache.Cache
	dirty chan struct{} // cap 1

	pods map[selection]*podCache // of Run

	now     atomic.Pointer[snapshot]
	changed chan struct{} // cap 1
}

var _ Cluster = (*KubeCluster)(nil)

// selection of pods: those of a namespace that match a selector.
type selection struct{ namespace, selector string }

// podCache holds the pods of one selection.
type podCache struct {
	cache  cache.Cache
	synced atomic.Bool
	stop   context.CancelFunc
	done   chan struct{}
}

// NewCluster prepares to watch the API of config, for the agents and Presences of
// one installation. Nothing is asked before Run.
func NewCluster(config *rest.Config, ours v1alpha1.Installation, log *slog.Logger) (*KubeCluster, error) {
	k := &KubeCluster{
		ours: ours, config: config, log: log,
		scheme: runtime.NewScheme(),
		dirty:  make(chan struct{}, 1), changed: make(chan struct{}, 1),
		pods: map[selection]*podCache{},
	}
	k.now.Store(&snapshot{})
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(k.scheme); err != nil {
			return nil, fmt.Errorf("build a scheme: %w", err)
		}
	}
	// A mapper that knows what is needed spares the discovery, and starts while
	// the API is away.
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, list := range []string{"", "List"} { // the cache asks for the kinds of lists, too
		mapper.Add(corev1.SchemeGroupVersion.WithKind("Node"+list), meta.RESTScopeRoot)
		mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"+list), meta.RESTScopeNamespace)
		mapper.Add(v1alpha1.GroupVersion.WithKind("Presence"+list), meta.RESTScopeNamespace)
	}
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	k.mapper = mapper
	var err error
	if k.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("client of the Kubernetes API: %w", err)
	}
	if k.api, err = client.New(config, client.Options{HTTPClient: k.http, Scheme: k.scheme, Mapper: k.mapper}); err != nil {
		return nil, fmt.Errorf("client of the Kubernetes API: %w", err)
	}
	k.base, err = k.cache(map[client.Object]cache.ByObject{
		&corev1.Node{}:       {Transform: stripNode},
		&v1alpha1.Presence{}: {},
		&corev1.Pod{}: {
			Namespaces: map[string]cache.Config{ours.Namespace: {}},
			Label:      labels.SelectorFromSet(labels.Set{AgentLabel: AgentLabelValue}),
			Transform:  pods.Strip,
		},
	})
	return k, err
}

func (k *KubeCluster) cache(objects map[client.Object]cache.ByObject) (cache.Cache, error) {
	c, err := cache.New(k.config, cache.Options{
		HTTPClient: k.http, Scheme: k.scheme, Mapper: k.mapper, ByObject: objects,
		ReaderFailOnMissingInformer: true,
	})
	if err != nil {
		return nil, fmt.Errorf("cache of the Kubernetes API: %w", err)
	}
	return c, nil
}

// Nodes implements Cluster.
func (k *KubeCluster) Nodes() []Node { return k.now.Load().nodes }

// Agents implements Cluster.
func (k *KubeCluster) Agents() []Peer { return k.now.Load().agents }

// Servers implements Cluster.
func (k *KubeCluster) Servers() []Target { return k.now.Load().servers }

// Changed implements Cluster.
func (k *KubeCluster) Changed() <-chan struct{} { return k.changed }

// Secret is a GetSecret.
func (k *KubeCluster) Secret(ctx context.Context, name types.NamespacedName) (map[string][]byte, error) {
	var s corev1.Secret
	if err := k.api.Get(ctx, name, &s); err != nil {
		return nil, err //nolint:wrapcheck // who asked says what for, and looks at the kind of error
	}
	return s.Data, nil
}

// Run watches until ctx ends. While the API is away it goes on trying, and what
// was known last stands.
func (k *KubeCluster) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := k.notify(ctx, k.base, &corev1.Node{}, &v1alpha1.Presence{}, &corev1.Pod{}); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- k.base.Start(ctx) }()
	defer func() {
		for _, p := range k.pods {
			p.stop()
			<-p.done
		}
	}()
	if k.base.WaitForCacheSync(ctx) {
		k.log.Info("Cluster is known")
		if err := k.follow(ctx); err != nil {
			cancel()
			return errors.Join(err, <-done)
		}
	}
	cancel()
	if err := <-done; err != nil {
		return fmt.Errorf("watch the Kubernetes API: %w", err)
	}
	return nil
}

// follow keeps the snapshot up to date.
func (k *KubeCluster) follow(ctx context.Context) error {
	for {
		next, err := k.look(ctx)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("read the cache of the Kubernetes API: %w", err)
		}
		if err == nil && !next.equal(k.now.Load()) {
			k.now.Store(next)
			poke(k.changed)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.dirty:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settleTime):
		}
	}
}

// look reads the caches, and begins and ends watches of pods as Presences ask.
func (k *KubeCluster) look(ctx context.Context) (*snapshot, error) {
	var nodes corev1.NodeList
	var agents corev1.PodList
	var presences v1alpha1.PresenceList
	for _, list := range []client.ObjectList{&nodes, &agents, &presences} {
		if err := k.base.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list %T: %w", list, err)
		}
	}
	slices.SortFunc(presences.Items, older)
	var populations []population
	wanted := map[selection]bool{}
	for i := range presences.Items {
		p := &presences.Items[i]
		if p.Spec.Servers == nil || !k.ours.Owns(p) {
			continue // its own agents probe for it
		}
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.Servers.Selector)
		if err != nil {
			k.log.Warn("Presence has no valid selector", "presence", p.Namespace+"/"+p.Name, "error", err)
			continue
		}
		s := selection{p.Namespace, selector.String()}
		wanted[s] = true
		pods, err := k.podsOf(ctx, s, selector)
		if err != nil {
			return nil, err
		}
		populations = append(populations, population{p, pods})
	}
	for s, p := range k.pods {
		if !wanted[s] {
			p.stop()
			<-p.done
			delete(k.pods, s)
		}
	}
	return compose(nodes.Items, agents.Items, populations), nil
}

// podsOf are the pods of a selection, none until its watch has begun.
func (k *KubeCluster) podsOf(ctx context.Context, s selection, selector labels.Selector) ([]corev1.Pod, error) {
	p, ok := k.pods[s]
	if !ok {
		var err error
		if p, err = k.watchPods(ctx, s, selector); err != nil {
			return nil, err
		}
		k.pods[s] = p
	}
	if !p.synced.Load() {
		return nil, nil
	}
	var pods corev1.PodList
	if err := p.cache.List(ctx, &pods, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", s.namespace, err)
	}
	return pods.Items, nil
}

func (k *KubeCluster) watchPods(ctx context.Context, s selection, selector labels.Selector) (*podCache, error) {
	c, err := k.cache(map[client.Object]cache.ByObject{&corev1.Pod{}: {
		Namespaces: map[string]cache.Config{s.namespace: {}},
		Label:      selector,
		Transform:  pods.Strip,
	}})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	p := &podCache{cache: c, stop: stop, done: make(chan struct{})}
	if err := k.notify(ctx, c, &corev1.Pod{}); err != nil {
		stop()
		return nil, err
	}
	var watches sync.WaitGroup
	watches.Go(func() {
		if err := c.Start(ctx); err != nil {
			k.log.Error("Watch of pods ended", "namespace", s.namespace, "selector", s.selector, "error", err)
		}
	})
	watches.Go(func() {
		if c.WaitForCacheSync(ctx) {
			p.synced.Store(true)
			poke(k.dirty)
		}
	})
	go func() {
		watches.Wait()
		close(p.done)
	}()
	return p, nil
}

// notify makes any change of these kinds mark the snapshot as out of date.
func (k *KubeCluster) notify(ctx context.Context, c cache.Cache, kinds ...client.Object) error {
	changed := toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { poke(k.dirty) },
		UpdateFunc: func(any, any) { poke(k.dirty) },
		DeleteFunc: func(any) { poke(k.dirty) },
	}
	for _, kind := range kinds {
		informer, err := c.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(changed); err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	return nil
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
