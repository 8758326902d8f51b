package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// requestTimeout bounds each request where --request-timeout doesn't.
const requestTimeout = 10 * time.Second

// cluster is the Kubernetes API, as the kubeconfig says.
type cluster struct {
	client.Client
	pods      typedcorev1.PodsGetter
	host      string
	namespace string
}

// connect asks nothing of the API server yet: what it serves is known.
func (p *plugin) connect() (*cluster, error) {
	config, err := p.flags.ToRESTConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, errors.New("no cluster is configured: name a kubeconfig with --kubeconfig or KUBECONFIG")
		}
		return nil, fmt.Errorf("the kubeconfig can't be used: %w", err)
	}
	if config.Timeout == 0 {
		config.Timeout = requestTimeout
	}
	config.QPS = -1
	config.WarningHandler = rest.NewWarningWriter(p.err, rest.WarningWriterOptions{Deduplicate: true})
	c := &cluster{host: config.Host}
	if c.namespace, _, err = p.flags.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, fmt.Errorf("the kubeconfig can't be used: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind, plural := range map[schema.GroupVersionKind]string{
		v1alpha1.GroupVersion.WithKind("Presence"):        "presences",
		v1alpha1.GroupVersion.WithKind("Failover"):        "failovers",
		corev1.SchemeGroupVersion.WithKind("Pod"):         "pods",
		corev1.SchemeGroupVersion.WithKind("Service"):     "services",
		appsv1.SchemeGroupVersion.WithKind("Deployment"):  "deployments",
		appsv1.SchemeGroupVersion.WithKind("ReplicaSet"):  "replicasets",
		appsv1.SchemeGroupVersion.WithKind("StatefulSet"): "statefulsets",
		appsv1.SchemeGroupVersion.WithKind("DaemonSet"):   "daemonsets",
	} {
		mapper.AddSpecific(kind, kind.GroupVersion().WithResource(plural),
			kind.GroupVersion().WithResource(strings.ToLower(kind.Kind)), meta.RESTScopeNamespace)
	}
	if c.Client, err = client.New(config, client.Options{Scheme: scheme, Mapper: mapper}); err != nil {
		return nil, fmt.Errorf("the kubeconfig can't be used: %w", err)
	}
	if c.pods, err = typedcorev1.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("the kubeconfig can't be used: %w", err)
	}
	return c, nil
}

// sentence words what the API server's answer to doing something means, with
// the remedy. What was not found by its name is the caller's to word.
func (c *cluster) sentence(doing string, err error) error {
	var transport *url.Error
	var network net.Error
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		return fail("%s is not allowed: ask an administrator of the cluster for the right to (%w)", doing, err)
	case apierrors.IsUnauthorized(err):
		return fail("%s: the Kubernetes API at %s doesn't accept your credentials: log in to the cluster again", doing, c.host)
	case apierrors.IsNotFound(err) && !named(err):
		return fail("%s: the cluster at %s has no such resource: choose the cluster with --context, or install Rollcall's CRDs", doing, c.host)
	case errors.Is(err, context.Canceled):
		return fail("%s: interrupted", doing)
	case errors.As(err, &transport), errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		return away{fail("%s: the Kubernetes API at %s doesn't answer: choose another with --context, or mend it (%w)", doing, c.host, bare(err))}
	default:
		return fail("%s: %w", doing, err)
	}
}

// named tells whether a "not found" is about one object, and not about a
// resource that the cluster doesn't have at all.
func named(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	d := status.Status().Details
	return d.Name != "" && !slices.ContainsFunc(d.Causes, func(c metav1.StatusCause) bool {
		return c.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}

// away is a failure to reach the API server.
type away struct{ error }

func (a away) Unwrap() error { return a.error }

// bare is an error without the request that it was the answer to.
func bare(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// server is a pod that a person names: NAME, pod/NAME or, as Rollcall's own
// logs have it, NAMESPACE/NAME.
func (c *cluster) server(p *plugin, arg string) (client.ObjectKey, error) {
	before, name, ok := strings.Cut(arg, "/")
	switch {
	case !ok:
		before, name = "pod", arg
	case before == "pods" || before == "po":
		before = "pod"
	}
	if name == "" || before == "" || strings.Contains(name, "/") {
		return client.ObjectKey{}, fmt.Errorf("%q is no server: write the name of its pod, or NAMESPACE/NAME", arg)
	}
	if before == "pod" {
		return client.ObjectKey{Namespace: c.namespace, Name: name}, nil
	}
	if given := *p.flags.Namespace; given != "" && given != before {
		return client.ObjectKey{}, fmt.Errorf("%q and --namespace %s contradict each other: give one of them", arg, given)
	}
	return client.ObjectKey{Namespace: before, Name: name}, nil
}

// populations are the Presences of servers in a namespace, oldest first.
func (c *cluster) populations(ctx context.Context, namespace string) ([]v1alpha1.Presence, error) {
	var all v1alpha1.PresenceList
	if err := c.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return nil, c.sentence("listing the Presences in namespace "+namespace, err)
	}
	return ofServers(&all), nil
}

// ofServers are those of servers, oldest first.
func ofServers(all *v1alpha1.PresenceList) []v1alpha1.Presence {
	servers := slices.DeleteFunc(all.Items, func(p v1alpha1.Presence) bool { return p.Spec.Servers == nil })
	slices.SortFunc(servers, func(a, b v1alpha1.Presence) int {
		if d := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return servers
}

// selects tells whether a Presence selects a pod.
func selects(p *v1alpha1.Presence, pod *corev1.Pod) bool {
	s, err := metav1.LabelSelectorAsSelector(&p.Spec.Servers.Selector)
	return err == nil && s.Matches(labels.Set(pod.Labels))
}

// accepted tells whether a Presence is honoured, as far as it is known.
func accepted(p *v1alpha1.Presence) bool {
	return !meta.IsStatusConditionFalse(p.Status.Conditions, v1alpha1.ConditionAccepted)
}

// responsible is the Presence that is honoured for a pod: of several that select
// it the oldest. Nil: none selects it.
func responsible(all []v1alpha1.Presence, pod *corev1.Pod) *v1alpha1.Presence {
	var refused *v1alpha1.Presence
	for i := range all {
		switch {
		case !selects(&all[i], pod):
		case accepted(&all[i]):
			return &all[i]
		case refused == nil:
			refused = &all[i]
		}
	}
	return refused
}

// failovers are those about one server, newest first.
func (c *cluster) failovers(ctx context.Context, server client.ObjectKey) ([]v1alpha1.Failover, error) {
	var all v1alpha1.FailoverList
	if err := c.List(ctx, &all, client.InNamespace(server.Namespace)); err != nil {
		return nil, c.sentence("listing the Failovers in namespace "+server.Namespace, err)
	}
	about := slices.DeleteFunc(all.Items, func(fo v1alpha1.Failover) bool { return fo.Spec.Server != server.Name })
	slices.SortFunc(about, func(a, b v1alpha1.Failover) int {
		if d := b.CreationTimestamp.Compare(a.CreationTimestamp.Time); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return about, nil
}

// open tells whether a Failover has not come to its end.
func open(fo *v1alpha1.Failover) bool {
	return !meta.IsStatusConditionFalse(fo.Status.Conditions, v1alpha1.ConditionProcessing)
}

// state is what STATE prints of a Failover.
func state(fo *v1alpha1.Failover) string {
	if c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionProcessing); c != nil {
		return c.Reason
	}
	return ""
}

// candidates words the servers that could have been meant.
func (c *cluster) candidates(ctx context.Context, namespace string, populations []v1alpha1.Presence) string {
	var names []string
	for i := range populations {
		s, err := metav1.LabelSelectorAsSelector(&populations[i].Spec.Servers.Selector)
		if err != nil {
			continue
		}
		var pods corev1.PodList
		if c.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: s}) != nil {
			continue
		}
		for _, p := range pods.Items {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 0:
		return "no Presence selects any server there: choose the namespace with -n"
	case len(names) > 8:
		return fmt.Sprintf("the servers there are %s and %d more", strings.Join(names[:8], ", "), len(names)-8)
	default:
		return "the servers there are " + strings.Join(names, ", ")
	}
}
