package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// What counts for Presences whose objects do not say it.
const (
	// Agents beat twice a second; their sessions live 1.5 × 1 s + 0.5 s.
	nodesInterval = time.Second
	nodesGrace    = 500 * time.Millisecond
	// The defaults of the API, for objects that were never defaulted.
	defaultMin   = time.Second
	defaultMax   = 10 * time.Minute
	defaultGrace = 5 * time.Second
	defaultSkew  = 30 * time.Second
)

// Watched knows the Presence objects of a cluster, from a watch. While the API
// server is away, it knows what it knew.
type Watched struct {
	ours     v1alpha1.Installation
	informer cache.SharedInformer
	handled  cache.ResourceEventHandlerRegistration
	log      *slog.Logger

	mu    sync.RWMutex
	known map[string]Presence // by "namespace/name"
}

// NewPresences prepares a watch of all Presences; Run begins it. Those that
// belong to another installation are known as such. It asks the API server
// nothing yet.
func NewPresences(config *rest.Config, ours v1alpha1.Installation, log *slog.Logger) (*Watched, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("server: presences: %w", err)
	}
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/apis", &v1alpha1.GroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeJSON
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("server: presences: %w", err)
	}
	source := cache.NewListWatchFromClient(client, "presences", "", fields.Everything())
	w := &Watched{ours: ours, informer: cache.NewSharedInformer(source, &v1alpha1.Presence{}, 0), log: log, known: map[string]Presence{}}
	if err := w.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		log.Warn("Presences could not be watched, will try again", "error", err)
	}); err != nil {
		return nil, fmt.Errorf("server: presences: %w", err)
	}
	w.handled, err = w.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.put(o) },
		UpdateFunc: func(_, o any) { w.put(o) },
		DeleteFunc: w.remove,
	})
	if err != nil {
		return nil, fmt.Errorf("server: presences: %w", err)
	}
	return w, nil
}

// Run watches until the context ends.
func (w *Watched) Run(ctx context.Context) error {
	w.informer.RunWithContext(ctx)
	return nil
}

// Synced tells whether all Presences are known.
func (w *Watched) Synced() bool { return w.handled.HasSynced() }

// Lookup finds a Presence.
func (w *Watched) Lookup(namespace, name string) (Presence, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	p, ok := w.known[namespace+"/"+name]
	return p, ok
}

func (w *Watched) put(o any) {
	p, ok := o.(*v1alpha1.Presence)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := presenceOf(p.Spec); known.Kind != "" { // a subject that a newer API has is not ours to serve
		if !w.ours.Owns(p) {
			known.Foreign = true
			known.Installation = v1alpha1.InstallationOf(p)
		}
		if before := w.known[p.Namespace+"/"+p.Name]; reflect.DeepEqual(before.Overrides, known.Overrides) {
			known.Overrides = before.Overrides // one for all clients, as long as they are the same
		}
		w.known[p.Namespace+"/"+p.Name] = known
	}
}

func (w *Watched) remove(o any) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.known, key)
}

// presenceOf is what a server needs to know of a spec.
func presenceOf(spec v1alpha1.PresenceSpec) Presence {
	switch {
	case spec.Nodes != nil:
		return Presence{
			Kind: Nodes, MinInterval: nodesInterval, MaxInterval: nodesInterval, Grace: nodesGrace,
			MissesUntilLate: 1, MissesUntilOffline: 1,
		}
	case spec.Servers != nil:
		return Presence{Kind: Servers, MinInterval: defaultMin, MaxInterval: defaultMax, Grace: defaultGrace}
	case spec.Clients != nil:
		c := spec.Clients
		p := Presence{
			Kind:        Clients,
			MinInterval: cmp.Or(c.Interval.Min.Duration, defaultMin), MaxInterval: cmp.Or(c.Interval.Max.Duration, defaultMax),
			Grace: defaultGrace, MissesUntilLate: int(c.MissesUntilLate), MissesUntilOffline: int(c.MissesUntilOffline),
		}
		if len(c.Interval.Overrides) > 0 {
			p.Overrides = &Overrides{Min: p.MinInterval, Max: p.MaxInterval}
			for _, o := range c.Interval.Overrides {
				p.Overrides.All = append(p.Overrides.All, Override{Network: o.Network, Region: o.Region, Min: o.Min.Duration, Max: o.Max.Duration})
			}
		}
		if c.SignedBeats != nil {
			p.MaxSkew = cmp.Or(c.SignedBeats.MaxSkew.Duration, defaultSkew)
		}
		if c.Grace != nil {
			p.Grace = c.Grace.Duration
		}
		return p
	}
	return Presence{}
}
