package chart

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// cluster shows objects to a real API server.
type cluster struct {
	api    dynamic.Interface
	core   kubernetes.Interface
	mapper meta.RESTMapper
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	config := controlplane.ForTest(t).AdminConfig()
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{api, core, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}
}

// namespace makes one, in which pods must be as restricted as can be.
func (c *cluster) namespace(t *testing.T, name string) {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	if _, err := c.core.CoreV1().Namespaces().Create(t.Context(), n, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// foreign are the groups of operators, whose kinds no bare cluster knows.
func foreign(o *unstructured.Unstructured) bool {
	group := o.GroupVersionKind().Group
	return group == "monitoring.coreos.com" || group == "cert-manager.io"
}

// apply sends an object as `kubectl apply --server-side --validate=strict` does.
func (c *cluster) apply(t *testing.T, o *unstructured.Unstructured, dryRun ...string) error {
	t.Helper()
	gvk := o.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	force := true
	options := metav1.PatchOptions{FieldManager: "test", FieldValidation: metav1.FieldValidationStrict, Force: &force, DryRun: dryRun}
	var resource dynamic.ResourceInterface = c.api.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = c.api.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	_, err = resource.Patch(t.Context(), o.GetName(), types.ApplyPatchType, raw, options)
	return err
}

// sets are values that together make every line of the templates.
var sets = map[string]string{
	"defaults":          `{}`,
	"to try it out":     `{etcd: {ephemeral: true}, server: {replicas: 1}, controller: {replicas: 1}}`,
	"an etcd elsewhere": `{etcd: {endpoints: ["https://a.example.com:2379", "https://b.example.com:2379"], tls: {secretName: mine}}}`,
	"outside by load balancers": `
image: {digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullSecrets: [{name: registry}]}
server:
  service: {type: LoadBalancer, loadBalancerClass: example.com/lb, loadBalancerSourceRanges: [10.0.0.0/8], annotations: {a: b}}
  perPod: {type: LoadBalancer, host: "$(POD_NAME).mqtt.example.com", annotations: {external-dns.alpha.kubernetes.io/hostname: "{{ .pod }}.mqtt.example.com"}}
  extraFlags: {faults: true, log-level: debug}
`,
	"outside by node ports": `{server: {service: {type: NodePort, nodePort: 31883}, perPod: {type: NodePort, nodePortBase: 31890}}}`,
	"all that can be set": `
fullnameOverride: watch
clusterDomain: k8s.example
controller: &part
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: dedicated, operator: Exists}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}]}}}
  podAnnotations: {a: b}
  priorityClassName: system-cluster-critical
server: *part
etcd: {<<: *part, members: 5, quota: 2Gi, storage: {size: 5Gi, className: fast}}
agent: {nodeSelector: {kubernetes.io/os: linux}, podAnnotations: {a: b}, maxUnavailable: 10%}
access:
  anonymous: true
  clientCertificates: {secretName: devices}
  jwt: {issuer: "https://id.example.com", audience: rollcall, keys: "https://id.example.com/keys", groupsClaim: groups}
certificates: {serverNames: [mqtt.example.com, 192.0.2.1]}
networkPolicies: {clients: [{namespaceSelector: {}}], http: [{ipBlock: {cidr: 10.0.0.0/8}}]}
monitoring: {dashboard: {enabled: true}}
crds: {keep: false}
`,
	"as little as can be": `
rbac: {aggregate: false}
admissionPolicy: {enabled: false}
server: {tls: {enabled: false}}
priorityClass: {create: false}
podDisruptionBudgets: {enabled: false}
networkPolicies: {enabled: false}
crds: {enabled: false}
etcd: {defragmentation: {enabled: false}}
`,
}

func TestTheAPIServerTakesWhatIsRendered(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, namespace)
	for name, values := range sets {
		t.Run(name, func(t *testing.T) {
			for _, o := range render(t, "--values", valuesFile(t, values), "--api-versions", "monitoring.coreos.com/v1") {
				if foreign(o) {
					continue
				}
				if err := c.apply(t, o, metav1.DryRunAll); err != nil {
					t.Errorf("%s: %v", key(o), err)
				}
			}
		})
	}
}

// The level "restricted" of Kubernetes's own admission, for each pod that any
// workload would make.
func TestPodsAreAsRestrictedAsCanBe(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, namespace)
	for _, o := range render(t) {
		template := podTemplate(t, o)
		if template == nil {
			continue
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod", Labels: template.Labels}, Spec: template.Spec}
		pod.Spec.PriorityClassName = "" // the dry run has made none
		if pod.Spec.RestartPolicy == "" {
			pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
		}
		// The volume of a claim template is the StatefulSet's to add.
		if o.GetKind() == "StatefulSet" && o.GetName() == "rollcall-etcd" {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		}
		if _, err := c.core.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

func TestPresencesOfNodesAreForInstallationsOnly(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, namespace)
	c.namespace(t, "tenant")
	r := render(t)
	for _, o := range []*unstructured.Unstructured{
		r.find(t, "Role", "rollcall-installation"), r.find(t, "RoleBinding", "rollcall-installation"),
		r.find(t, "ValidatingAdmissionPolicy", "rollcall-nodes."+namespace), r.find(t, "ValidatingAdmissionPolicyBinding", "rollcall-nodes."+namespace),
	} {
		if err := c.apply(t, o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.remove(t, o) })
	}
	create := func(namespace string, spec map[string]any) error {
		_, err := c.api.Resource(presences).Namespace(namespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "rollcall.dev/v1alpha1", "kind": "Presence", "metadata": map[string]any{"name": "try"}, "spec": spec,
		}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	nodes := map[string]any{"nodes": map[string]any{}}
	clients := map[string]any{"clients": map[string]any{}}

	const want = "spec.nodes is for the namespace of a Rollcall installation only, and tenant has none"
	eventually(t, "the policy to be known", func() bool { return apierrors.IsForbidden(create("tenant", nodes)) })
	if err := create("tenant", nodes); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a tenant's Presence of nodes: got %v, want %q", err, want)
	}
	if err := create("tenant", clients); err != nil {
		t.Errorf("a tenant's Presence of clients: %v", err)
	}
	eventually(t, "the installation's right to be known", func() bool { return create(namespace, nodes) == nil })
}

var presences = schema.GroupVersionResource{Group: "rollcall.dev", Version: "v1alpha1", Resource: "presences"}

// remove takes back what apply has made, for other tests of this binary.
func (c *cluster) remove(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	gvk := o.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		t.Error(err)
		return
	}
	err = c.api.Resource(mapping.Resource).Namespace(o.GetNamespace()).Delete(context.WithoutCancel(t.Context()), o.GetName(), metav1.DeleteOptions{})
	if err != nil {
		t.Error(err)
	}
}

// eventually polls: admission learns of policies by watching.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) { return done(), nil })
	if err != nil {
		t.Fatalf("waited for %s: %v", what, err)
	}
}
