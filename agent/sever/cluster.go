package sever

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	acmeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/agent/pods"
	ac "github.com/rollcall-dev/rollcall/api/applyconfiguration/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// +kubebuilder:rbac:groups=rollcall.dev,resources=failovers,verbs=get;list;watch
// +kubebuilder:rbac:groups=rollcall.dev,resources=failovers/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list
// +kubebuilder:rbac:groups="",resources=services,verbs=list
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// fieldOwner is the field manager of what the severer writes of a Failover.
const fieldOwner = client.FieldOwner("rollcall-sever")

// Observers selects the pods of an installation's parts that ask servers: agents, and
// those that stand in for them.
const Observers = "app.kubernetes.io/name=rollcall,app.kubernetes.io/component in (agent,controller,server)"

// kube is the cluster of a Kubernetes API. It watches Failovers, of which there
// are few, and asks for everything else when there is something to be severed.
type kube struct {
	namespace, node string
	cache           cache.Cache
	api             client.Client
	broadcaster     events.EventBroadcaster
	recorder        events.EventRecorder
	observers       labels.Selector
	synced          atomic.Bool
}

func newKube(cfg Config) (*kube, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("sever: %w", err)
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil) // so that an API that is away need not be asked
	for _, list := range []string{"", "List"} {
		mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"+list), meta.RESTScopeNamespace)
		mapper.Add(corev1.SchemeGroupVersion.WithKind("Service"+list), meta.RESTScopeNamespace)
		mapper.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"+list), meta.RESTScopeNamespace)
		mapper.Add(v1alpha1.GroupVersion.WithKind("Failover"+list), meta.RESTScopeNamespace)
	}
	config := rest.CopyConfig(cfg.RestConfig)
	if config.QPS == 0 {
		config.QPS = -1 // the API server has its own fairness
	}
	k := &kube{namespace: cfg.Namespace, node: cfg.Node}
	var err error
	if k.observers, err = labels.Parse(Observers); err != nil {
		return nil, fmt.Errorf("sever: %w", err)
	}
	if k.cache, err = cache.New(config, cache.Options{Scheme: scheme, Mapper: mapper}); err != nil {
		return nil, fmt.Errorf("sever: cache of the Kubernetes API: %w", err)
	}
	if k.api, err = client.New(config, client.Options{Scheme: scheme, Mapper: mapper}); err != nil {
		return nil, fmt.Errorf("sever: client of the Kubernetes API: %w", err)
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("sever: client of the Kubernetes API: %w", err)
	}
	k.broadcaster = events.NewBroadcaster(&events.EventSinkImpl{Interface: set.EventsV1()})
	k.recorder = k.broadcaster.NewRecorder(scheme, "rollcall-sever")
	return k, nil
}

func (k *kube) ready() error {
	if !k.synced.Load() {
		return errors.New("the API server has not given the Failovers yet")
	}
	return nil
}

func (k *kube) run(ctx context.Context, handler toolscache.ResourceEventHandler) error {
	if err := k.broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("sever: record events: %w", err)
	}
	defer k.broadcaster.Shutdown()
	informer, err := k.cache.GetInformer(ctx, &v1alpha1.Failover{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("sever: watch Failovers: %w", err)
	}
	if _, err := informer.AddEventHandler(handler); err != nil {
		return fmt.Errorf("sever: watch Failovers: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- k.cache.Start(ctx) }()
	k.synced.Store(k.cache.WaitForCacheSync(ctx))
	if err := <-done; err != nil {
		return fmt.Errorf("sever: watch the Kubernetes API: %w", err)
	}
	return nil
}

func (k *kube) target(ctx context.Context, server types.NamespacedName, order *v1alpha1.SeverOrder) (target, error) {
	var pod corev1.Pod
	err := k.api.Get(ctx, server, &pod)
	if client.IgnoreNotFound(err) != nil {
		return target{}, fmt.Errorf("read the pod: %w", err)
	}
	t, err := targetOf(&pod, err == nil, order, k.node)
	if err != nil {
		return t, err
	}
	if err := k.diverted(ctx, &pod, order.Divert); err != nil {
		return t, err
	}
	var list corev1.PodList
	if err := k.api.List(ctx, &list, client.InNamespace(k.namespace), client.MatchingLabelsSelector{Selector: k.observers}); err != nil {
		return t, fmt.Errorf("list the observers: %w", err)
	}
	for i := range list.Items {
		for _, a := range pods.AddressesOf(&list.Items[i]) {
			t.spared[a] = true
		}
	}
	return t, nil
}

// targetOf is what may be severed of a pod as it is now.
func targetOf(pod *corev1.Pod, exists bool, order *v1alpha1.SeverOrder, node string) (target, error) {
	t := target{spared: map[netip.Addr]bool{}}
	if !exists || pod.UID != order.PodUID || pod.Spec.NodeName != node {
		return t, refusal{v1alpha1.ReasonNoSuchPod, "The pod that is meant is not on this node any more."}
	}
	if pod.Spec.HostNetwork {
		return t, refusal{v1alpha1.ReasonHostNetwork,
			"The pod shares its node's network, where its connections can't be told from others' for certain: take hostNetwork off it, or set failover.sever.mode to Off."}
	}
	port, ok := pods.PortOf(pod, order.Port)
	if !ok {
		return t, refusal{v1alpha1.ReasonNoSuchPort, fmt.Sprintf("No container of the pod has a port called %q.", order.Port.String())}
	}
	t.port, t.addresses = port, pods.AddressesOf(pod)
	if len(t.addresses) == 0 {
		return t, refusal{v1alpha1.ReasonNoSuchPod, "The pod has no address."}
	}
	if order.Divert == v1alpha1.DivertReadinessGate {
		if v1alpha1.GateOf(pod) != corev1.ConditionFalse {
			return t, refusal{v1alpha1.ReasonNotDiverted, "The pod's condition " + v1alpha1.AcceptingGate + " is not False: clients would come back to it."}
		}
		return t, nil
	}
	if pod.Labels[v1alpha1.AcceptingLabel] != "false" {
		return t, refusal{v1alpha1.ReasonNotDiverted, "The pod's label " + v1alpha1.AcceptingLabel + " is not false: clients would come back to it."}
	}
	return t, nil
}

// diverted makes sure that clients who come back are led elsewhere: that a
// Service which would lead to the pod while it accepts does not now.
func (k *kube) diverted(ctx context.Context, pod *corev1.Pod, mode v1alpha1.DivertMode) error {
	var services corev1.ServiceList
	if err := k.api.List(ctx, &services, client.InNamespace(pod.Namespace)); err != nil {
		return fmt.Errorf("list Services: %w", err)
	}
	following := followers(pod, services.Items, mode)
	if len(following) == 0 {
		if mode == v1alpha1.DivertReadinessGate {
			return refusal{v1alpha1.ReasonNotDiverted, "No Service leads past such a pod: clients would come back to it."}
		}
		return refusal{v1alpha1.ReasonNotDiverted, "No Service that selects " + v1alpha1.AcceptingLabel +
			`: "true" leads to such a pod: clients would come back to it. Add the label to the selector of the Service that they come through.`}
	}
	for _, name := range following {
		var slices discoveryv1.EndpointSliceList
		err := k.api.List(ctx, &slices, client.InNamespace(pod.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: name})
		if err != nil {
			return fmt.Errorf("list the endpoints of Service %s: %w", name, err)
		}
		if leads(slices.Items, pod, mode) {
			return refusal{v1alpha1.ReasonNotDiverted, "The Service " + name + " still leads to the pod."}
		}
	}
	return nil
}

// followers are the Services that would lead to a pod, were it accepting, and that
// lead past it while it is not: by its label, or by its readiness.
func followers(pod *corev1.Pod, services []corev1.Service, mode v1alpha1.DivertMode) []string {
	follows := func(s *corev1.Service) bool { return s.Spec.Selector[v1alpha1.AcceptingLabel] == "true" }
	accepting := maps.Clone(pod.Labels)
	if mode == v1alpha1.DivertReadinessGate {
		follows = func(s *corev1.Service) bool { return len(s.Spec.Selector) > 0 && !s.Spec.PublishNotReadyAddresses }
	} else {
		accepting[v1alpha1.AcceptingLabel] = "true"
	}
	var names []string
	for i := range services {
		s := &services[i]
		if follows(s) && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(accepting)) {
			names = append(names, s.Name)
		}
	}
	return names
}

// leads tells whether endpoints are those of a pod, and, where its readiness counts,
// ready: who says nothing of that is.
func leads(slices []discoveryv1.EndpointSlice, pod *corev1.Pod, mode v1alpha1.DivertMode) bool {
	for _, s := range slices {
		for _, e := range s.Endpoints {
			if e.TargetRef == nil || e.TargetRef.UID != pod.UID {
				continue
			}
			if mode != v1alpha1.DivertReadinessGate || e.Conditions.Ready == nil || *e.Conditions.Ready {
				return true
			}
		}
	}
	return false
}

func (k *kube) report(ctx context.Context, fo *v1alpha1.Failover, s v1alpha1.Severed, c saying) error {
	since := metav1.Now()
	var now v1alpha1.Failover
	if err := k.api.Get(ctx, client.ObjectKeyFromObject(fo), &now); err != nil {
		return err
	}
	if now.UID != fo.UID {
		return apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("failovers").GroupResource(), fo.Name)
	}
	if was := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionSevering); was != nil && was.Status == c.status {
		since = was.LastTransitionTime
	}
	severed := ac.Severed().WithNode(s.Node).WithPort(s.Port).WithConnections(s.Connections).WithRemaining(s.Remaining)
	severed.FirstAt, severed.LastAt = s.FirstAt, s.LastAt
	// The UID makes sure that it is this object and not another of its name.
	config := ac.Failover(fo.Name, fo.Namespace).WithUID(fo.UID).WithStatus(ac.FailoverStatus().
		WithSevered(severed).
		WithConditions(acmeta.Condition().
			WithType(v1alpha1.ConditionSevering).WithStatus(c.status).WithReason(c.reason).WithMessage(c.message).
			WithObservedGeneration(now.Generation).WithLastTransitionTime(since)))
	return k.api.Status().Apply(ctx, config, fieldOwner, client.ForceOwnership)
}

func (k *kube) ended(fo *v1alpha1.Failover, connections int) {
	k.recorder.Eventf(fo, nil, corev1.EventTypeNormal, "ClientsSevered", "Sever",
		"%d client connections of %s were ended by the kernel of node %s", connections, fo.Spec.Server, k.node)
}
