package controllers

import (
	"context"
	"maps"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/defaults"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/presence"
	"github.com/rollcall-dev/rollcall/controllers/quarantine"
	"github.com/rollcall-dev/rollcall/controllers/retry"
	"github.com/rollcall-dev/rollcall/internal/plan"
)

// parallel is how many objects of a kind are reconciled at once.
const parallel = 4

func (c *Controllers) makeReconcilers() error {
	metrics, err := failover.NewMetrics(c.cfg.Registerer)
	if err != nil {
		return err
	}
	recorder := c.manager.GetEventRecorder("rollcall-controller")
	api := c.manager.GetClient()
	c.follower = &failover.Follower{
		Client: api, Ledger: c.ledger, Seat: c.seat, Store: c.cfg.Store, Look: c.judge.Look, Standing: c.book.Directive,
		Divert: c.gate.Divert, Restore: c.gate.Restore,
		Kick: c.failovers.kick, Recorder: recorder, Retry: c.retry, Logger: c.cfg.Logger, Metrics: metrics,
		Now: c.book.Now, Go: c.background.Go,
	}
	c.opener = &failover.Opener{
		Client: api, Live: c.manager.GetAPIReader(), Ledger: c.ledger, Follower: c.follower, Retry: c.retry, Logger: c.cfg.Logger, Metrics: metrics,
	}
	c.warden = &quarantine.Warden{
		Client: api, Live: c.manager.GetAPIReader(), Installation: c.cfg.Namespace, Recorder: recorder, Once: c.once,
		Logger: c.cfg.Logger, Now: c.book.Now, Touch: c.book.Touch,
	}
	c.presence = &presence.Reconciler{
		Client: api, Seat: c.seat, Last: c.judge.Last, Kick: c.presences.kick, Evacuations: c.warden.Report, Recorder: recorder,
		Retry: c.retry, Logger: c.cfg.Logger, Now: c.book.Now,
	}
	err = builder.ControllerManagedBy(c.manager).Named("failover").For(&v1alpha1.Failover{}).
		WatchesRawSource(c.failovers.source()).
		WithOptions(controller.Options{MaxConcurrentReconciles: parallel, RateLimiter: retry.Limiter()}).
		Complete(c.follower)
	if err != nil {
		return err
	}
	return builder.ControllerManagedBy(c.manager).Named("presence").For(&v1alpha1.Presence{}).
		WatchesRawSource(c.presences.source()).
		WithOptions(controller.Options{MaxConcurrentReconciles: parallel, RateLimiter: retry.Limiter()}).
		Complete(c.presence)
}

// run is everything but the reconcilers. The manager begins it when its caches run.
func (c *Controllers) run(ctx context.Context) error {
	g, parts := errgroup.WithContext(ctx)
	g.Go(func() error { return c.book.Watch(parts, c.cfg.Store, c.cfg.Namespace) })
	g.Go(func() error {
		if err := c.watchKubernetes(parts); err != nil {
			return err
		}
		// Only from here on: who doesn't know who there is must neither judge nor lead.
		g.Go(func() error { return c.seat.Run(parts) })
		g.Go(func() error { return c.orphans.Run(parts) })
		g.Go(func() error { return c.serve(parts) })
		g.Go(func() error { return c.observe(parts) })
		return c.judge.Run(parts)
	})
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil // what ends with the context has not failed
}

// watchKubernetes returns when the caches of all that is judged are filled.
func (c *Controllers) watchKubernetes(ctx context.Context) error {
	for _, w := range []struct {
		object  client.Object
		changed func(before, after any) bool
		do      func()
	}{
		{&v1alpha1.Presence{}, presenceChanged, c.judge.Enrol},
		{&corev1.Pod{}, podChanged, c.judge.Enrol},
		{&corev1.Node{}, nodeChanged, c.judge.Enrol},
		{&corev1.Service{}, serviceChanged, c.judge.Enrol},
		{&v1alpha1.Failover{}, func(_, _ any) bool { return true }, c.book.Touch},
	} {
		var informer cache.Informer
		// An API server that is away, or doesn't know our kinds yet, is waited for.
		err := c.retry.Do(ctx, "watch", func(ctx context.Context) (err error) {
			informer, err = c.manager.GetCache().GetInformer(ctx, w.object)
			return err
		})
		if err != nil {
			return err
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { w.do() },
			UpdateFunc: func(before, after any) {
				if w.changed(before, after) {
					w.do()
				}
			},
			DeleteFunc: func(any) { w.do() },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// changed is told by the seat that the leadership has begun or ended.
func (c *Controllers) changed() {
	for _, tell := range []chan struct{}{c.began, c.led} {
		select {
		case tell <- struct{}{}:
		default:
		}
	}
	c.book.Touch()
}

// serve does what is done once in every term.
func (c *Controllers) serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.began:
		}
		t := c.seat.Current()
		if t == nil {
			continue
		}
		err := defaults.Ensure(t.Context, c.manager.GetClient(), c.retry, c.cfg.Logger, c.cfg.Namespace)
		if err != nil && t.Context.Err() == nil {
			c.cfg.Logger.Error("The default Presences could not be made", "err", err)
		}
	}
}

// publish hands a judgement on to those who act on it: all but the welcome of new
// pods only if this replica leads. It only begins things: the judge must not wait
// for the API server.
func (c *Controllers) publish(ctx context.Context, r *judge.Result) {
	c.gate.Welcome(ctx, r)
	t := c.seat.Current()
	if t == nil {
		c.presence.Blind(r)
		return
	}
	for _, pop := range r.Populations {
		for _, m := range pop.Decision.Moves {
			c.opener.Open(t, pop.Presence, m, baseline(r, m))
		}
	}
	c.gate.Keep(t, r)
	c.warden.Keep(t, r)
	c.kept.Keep(t, r)
	c.presence.Announce(t, r)
	failovers, err := c.ledger.All(t.Context, "")
	if err != nil {
		c.cfg.Logger.Warn("Failovers could not be read", "err", err)
		return
	}
	for _, fo := range failovers {
		if !failover.Finished(fo) {
			c.failovers.kick(client.ObjectKeyFromObject(fo))
		}
	}
}

// baseline is what the progress of a move is counted from: for a server in
// trouble what it held when it was last seen well, else what it holds now.
func baseline(r *judge.Result, m plan.Move) evidence.Baseline {
	s := r.Servers[m.Server]
	if m.Count == 0 {
		return s.Well
	}
	return evidence.Baseline{Clients: s.Record.Total(), TakenOver: s.TakenOver}
}

// kicker puts requests into the queue of a controller, past its rate limiter.
type kicker struct {
	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
}

func (k *kicker) source() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.queue = queue
		return nil
	})
}

func (k *kicker) kick(key types.NamespacedName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.queue != nil {
		k.queue.Add(reconcile.Request{NamespacedName: key})
	}
}

func presenceChanged(before, after any) bool {
	a, b := before.(*v1alpha1.Presence), after.(*v1alpha1.Presence)
	return a.UID != b.UID || a.Generation != b.Generation || !maps.Equal(a.Annotations, b.Annotations) ||
		v1alpha1.InstallationOf(a) != v1alpha1.InstallationOf(b)
}

func podChanged(before, after any) bool {
	a, b := before.(*corev1.Pod), after.(*corev1.Pod)
	return judge.PodOf(a) != judge.PodOf(b) || a.Status.Phase != b.Status.Phase || !maps.Equal(a.Labels, b.Labels)
}

func nodeChanged(before, after any) bool {
	a, b := before.(*corev1.Node), after.(*corev1.Node)
	return judge.MachineOf(a) != judge.MachineOf(b) || !maps.Equal(a.Labels, b.Labels)
}

func serviceChanged(before, after any) bool {
	a, b := before.(*corev1.Service), after.(*corev1.Service)
	return !equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

// slimService keeps what is looked at of a Service: whom it leads to.
func slimService(o any) (any, error) {
	s, ok := o.(*corev1.Service)
	if !ok {
		return o, nil
	}
	slim := &corev1.Service{TypeMeta: s.TypeMeta, ObjectMeta: s.ObjectMeta}
	slim.ManagedFields, slim.Annotations = nil, nil
	slim.Spec.Selector, slim.Spec.Ports, slim.Spec.ClusterIP = s.Spec.Selector, s.Spec.Ports, s.Spec.ClusterIP
	slim.Spec.PublishNotReadyAddresses = s.Spec.PublishNotReadyAddresses
	return slim, nil
}

// slimPod keeps what is looked at of a pod: there may be many thousands.
func slimPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	slim := &corev1.Pod{TypeMeta: p.TypeMeta, ObjectMeta: p.ObjectMeta}
	slim.ManagedFields = nil
	if v, ok := p.Annotations[v1alpha1.PausedAnnotation]; ok {
		slim.Annotations = map[string]string{v1alpha1.PausedAnnotation: v}
	} else {
		slim.Annotations = nil
	}
	slim.Spec.NodeName = p.Spec.NodeName
	slim.Spec.Containers, slim.Spec.InitContainers = ports(p.Spec.Containers), ports(p.Spec.InitContainers)
	slim.Status.Phase, slim.Status.PodIP = p.Status.Phase, p.Status.PodIP
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady || c.Type == v1alpha1.AcceptingGate {
			slim.Status.Conditions = append(slim.Status.Conditions, c)
		}
	}
	if v1alpha1.Gated(p) {
		slim.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: v1alpha1.AcceptingGate}}
	}
	return slim, nil
}

// ports are what is looked at of containers.
func ports(containers []corev1.Container) []corev1.Container {
	var some []corev1.Container
	for _, c := range containers {
		if len(c.Ports) > 0 {
			some = append(some, corev1.Container{Ports: c.Ports})
		}
	}
	return some
}

// slimNode likewise.
func slimNode(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	slim := &corev1.Node{TypeMeta: n.TypeMeta, ObjectMeta: n.ObjectMeta}
	slim.ManagedFields, slim.Annotations = nil, map[string]string{}
	for _, key := range []string{v1alpha1.PausedAnnotation, v1alpha1.TaintedByAnnotation} {
		if v, ok := n.Annotations[key]; ok {
			slim.Annotations[key] = v
		}
	}
	slim.Spec.Taints = n.Spec.Taints
	return slim, nil
}
