package chart

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

func TestWhatIsGeneratedIsFresh(t *testing.T) {
	theHelm(t) // finds it, or builds it
	cmd := exec.CommandContext(t.Context(), "go", "run", "./hack/chart", "-check")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// kubectl presence and the agents find pods by these.
func TestPodsHaveTheLabelsAndPortsThatOthersLookFor(t *testing.T) {
	r := render(t)
	for _, c := range []struct {
		kind, name, component, port string
	}{
		{"Deployment", "rollcall-controller", "controller", "http"},
		{"StatefulSet", "rollcall-server", "server", "mqtt"},
		{"DaemonSet", "rollcall-agent", "agent", "gossip"},
		{"StatefulSet", "rollcall-etcd", "etcd", "client"},
	} {
		template := podTemplate(t, r.find(t, c.kind, c.name))
		want := labels.Set{"app.kubernetes.io/name": "rollcall", "app.kubernetes.io/instance": "rollcall", "app.kubernetes.io/component": c.component}
		if !want.AsSelector().Matches(labels.Set(template.Labels)) {
			t.Errorf("%s has labels %v, want %v", c.name, template.Labels, want)
		}
		if accepting := template.Labels["rollcall.dev/accepting"]; (accepting == "true") != (c.component == "server") {
			t.Errorf("%s: rollcall.dev/accepting is %q", c.name, accepting)
		}
		if !slices.ContainsFunc(template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == c.port }) {
			t.Errorf("%s has no port called %s", c.name, c.port)
		}
	}
}

// Every selector picks pods of one part, and some.
func TestSelectorsPickOnePart(t *testing.T) {
	r := render(t, "--set", "server.perPod.type=NodePort")
	for _, o := range r {
		var raw map[string]string
		switch o.GetKind() {
		case "Service":
			raw, _, _ = unstructured.NestedStringMap(o.Object, "spec", "selector")
			delete(raw, "statefulset.kubernetes.io/pod-name")
		case "NetworkPolicy":
			raw, _, _ = unstructured.NestedStringMap(o.Object, "spec", "podSelector", "matchLabels")
		case "PodDisruptionBudget", "Deployment", "StatefulSet", "DaemonSet":
			raw, _, _ = unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
		default:
			continue
		}
		var picked []string
		for _, w := range r {
			template := podTemplate(t, w)
			if template != nil && labels.SelectorFromSet(raw).Matches(labels.Set(template.Labels)) {
				picked = append(picked, w.GetKind()+" "+w.GetName())
			}
		}
		if len(picked) != 1 {
			t.Errorf("%s %s picks %v", o.GetKind(), o.GetName(), picked)
		}
	}
}

// A Service called rollcall would put settings into every pod's environment.
func TestNoPodGetsTheServicesIntoItsEnvironment(t *testing.T) {
	for _, o := range render(t) {
		template := podTemplate(t, o)
		if template == nil {
			continue
		}
		if links := template.Spec.EnableServiceLinks; links == nil || *links {
			t.Errorf("%s %s has service links", o.GetKind(), o.GetName())
		}
	}
}

func TestTwoInstallationsShareNothingButTheCRDs(t *testing.T) {
	names := map[string]bool{}
	for _, o := range render(t) {
		names[key(o)] = true
	}
	for _, args := range [][]string{
		{"template", "rollcall", "--namespace", "elsewhere"},
		{"template", "other", "--namespace", "other"},
	} {
		args = slices.Insert(args, 2, theHelm(t).Chart())
		out, err := theHelm(t).Run(t.Context(), append(args, "--set", "crds.enabled=false,installation.default=false")...)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range parse(t, out) {
			if names[key(o)] {
				t.Errorf("%s is in both", key(o))
			}
			names[key(o)] = true
		}
	}
}

func key(o *unstructured.Unstructured) string {
	return strings.Join([]string{o.GetKind(), o.GetNamespace(), o.GetName()}, " ")
}

// Who may come to servers may not come to etcd.
func TestOnlyThoseWhoNeedEtcdGetItsCertificate(t *testing.T) {
	for _, o := range render(t) {
		template := podTemplate(t, o)
		if template == nil {
			continue
		}
		may := slices.Contains([]string{"rollcall-controller", "rollcall-server", "rollcall-etcd-defragmentation"}, o.GetName())
		has := slices.ContainsFunc(template.Spec.Volumes, func(v corev1.Volume) bool {
			return v.Secret != nil && v.Secret.SecretName == "rollcall-etcd-client"
		})
		if has != may {
			t.Errorf("%s %s has etcd's client certificate: %v", o.GetKind(), o.GetName(), has)
		}
		for _, v := range template.Spec.Volumes {
			if v.Secret != nil && strings.HasSuffix(v.Secret.SecretName, "ca-key") {
				t.Errorf("%s %s has the key of an authority", o.GetKind(), o.GetName())
			}
		}
	}
}

func TestTheJobMayTouchItsOwnSecretsOnly(t *testing.T) {
	role := render(t).find(t, "Role", "rollcall-certificates")
	rules, _, _ := unstructured.NestedSlice(role.Object, "rules")
	for _, r := range rules {
		names, _, _ := unstructured.NestedStringSlice(r.(map[string]any), "resourceNames")
		verbs, _, _ := unstructured.NestedStringSlice(r.(map[string]any), "verbs")
		if len(names) == 0 && !slices.Equal(verbs, []string{"create"}) {
			t.Errorf("it may %v any Secret", verbs)
		}
	}
}

func TestAddressesOfSingleServers(t *testing.T) {
	for _, c := range []struct{ name, values, advertise, certificate string }{
		{"inside the cluster", `{}`, "$(POD_NAME).rollcall-server.rollcall-system.svc.cluster.local:8883", "*.rollcall-server.rollcall-system.svc.cluster.local"},
		{"in a cluster of another domain", `clusterDomain: k8s.example`, "$(POD_NAME).rollcall-server.rollcall-system.svc.k8s.example:8883", "*.rollcall-server.rollcall-system.svc.k8s.example"},
		{"by node ports", `server: {perPod: {type: NodePort}}`, "$(HOST_IP):3188$(POD_INDEX)", ""},
		{"by node ports of hosts with names", `server: {perPod: {type: NodePort, host: "$(NODE_NAME).nodes.example.com"}}`, "$(NODE_NAME).nodes.example.com:3188$(POD_INDEX)", "*.nodes.example.com"},
		{"by load balancers", `server: {perPod: {type: LoadBalancer, host: "$(POD_NAME).mqtt.example.com"}}`, "$(POD_NAME).mqtt.example.com:8883", "*.mqtt.example.com"},
		{"by a word of one's own", `server: {advertise: "mqtt-$(POD_INDEX).example.com:8883"}`, "mqtt-$(POD_INDEX).example.com:8883", "*.example.com"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := render(t, "--values", valuesFile(t, c.values))
			if got := flag(t, r.args(t, "StatefulSet", "rollcall-server"), "advertise"); got != c.advertise {
				t.Errorf("a server says %s, want %s", got, c.advertise)
			}
			names := strings.Split(flag(t, r.args(t, "Job", "rollcall-certificates-hook"), "server-names"), ",")
			if c.certificate != "" && !slices.Contains(names, c.certificate) {
				t.Errorf("the certificate is for %v, want %s", names, c.certificate)
			}
		})
	}
}

func TestEtcdOfThreeKinds(t *testing.T) {
	own := render(t)
	endpoints := flag(t, own.args(t, "StatefulSet", "rollcall-server"), "etcd")
	if strings.Count(endpoints, "https://rollcall-etcd-") != 3 {
		t.Errorf("servers come to %s", endpoints)
	}
	if n, _, _ := unstructured.NestedNumberAsFloat64(own.find(t, "StatefulSet", "rollcall-etcd").Object, "spec", "replicas"); n != 3 {
		t.Errorf("there are %v members", n)
	}

	ephemeral := render(t, "--set", "etcd.ephemeral=true")
	set := ephemeral.find(t, "StatefulSet", "rollcall-etcd").Object
	if n, _, _ := unstructured.NestedNumberAsFloat64(set, "spec", "replicas"); n != 1 {
		t.Errorf("there are %v ephemeral members", n)
	}
	if _, ok, _ := unstructured.NestedSlice(set, "spec", "volumeClaimTemplates"); ok {
		t.Error("an ephemeral member has a volume")
	}

	users := render(t, "--set", "etcd.endpoints={https://etcd.example.com:2379}", "--set", "etcd.tls.secretName=mine")
	for _, kind := range []string{"StatefulSet", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"} {
		if users.has(kind, "rollcall-etcd") {
			t.Errorf("with an etcd of the user's own there is a %s for another", kind)
		}
	}
	if got := flag(t, users.args(t, "Deployment", "rollcall-controller"), "etcd"); got != "https://etcd.example.com:2379" {
		t.Errorf("controllers come to %s", got)
	}
	if slices.ContainsFunc(users.args(t, "Job", "rollcall-certificates-hook"), func(a string) bool { return strings.HasPrefix(a, "--etcd-names") }) {
		t.Error("certificates are made for an etcd that has its own")
	}
}

func TestCRDsOutliveTheRelease(t *testing.T) {
	const crd, policy = "presences.rollcall.dev", "helm.sh/resource-policy"
	kind := "CustomResourceDefinition"
	if got := render(t).find(t, kind, crd).GetAnnotations()[policy]; got != "keep" {
		t.Errorf("by default the policy is %q", got)
	}
	if got := render(t, "--set", "crds.keep=false").find(t, kind, crd).GetAnnotations()[policy]; got != "" {
		t.Errorf("without crds.keep the policy is %q", got)
	}
	if render(t, "--set", "crds.enabled=false").has(kind, crd) {
		t.Error("without crds.enabled they are there")
	}
}

func TestGraceFollowsFromClientsAndPace(t *testing.T) {
	for args, want := range map[string]int64{
		"": 80, "server.capacity=1000000": 530, "server.connectRate=500": 230, "server.terminationGracePeriodSeconds=7": 7,
	} {
		r := render(t, "--set", args)
		if got := podTemplate(t, r.find(t, "StatefulSet", "rollcall-server")).Spec.TerminationGracePeriodSeconds; *got != want {
			t.Errorf("%s: %d s, want %d s", args, *got, want)
		}
	}
}

func TestAgentsRunOnEveryNode(t *testing.T) {
	template := podTemplate(t, render(t).find(t, "DaemonSet", "rollcall-agent"))
	if !slices.Contains(template.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists}) {
		t.Errorf("they tolerate %v", template.Spec.Tolerations)
	}
	r := template.Spec.Containers[0].Resources
	if r.Requests.Cpu().IsZero() || !r.Limits.Cpu().IsZero() {
		t.Errorf("their CPU: requested %v, at most %v", r.Requests.Cpu(), r.Limits.Cpu())
	}
}

func TestWhatNeedsOperatorsComesWithThem(t *testing.T) {
	bare := render(t)
	full := render(t, "--api-versions", "monitoring.coreos.com/v1", "--api-versions", "cert-manager.io/v1")
	for _, c := range []struct{ kind, name string }{
		{"PodMonitor", "rollcall-server"}, {"PodMonitor", "rollcall-agent"}, {"PodMonitor", "rollcall-controller"},
		{"ServiceMonitor", "rollcall-etcd"}, {"PrometheusRule", "rollcall-alerts"},
		{"Certificate", "rollcall-server-tls"}, {"Certificate", "rollcall-etcd-client"}, {"Issuer", "rollcall-ca"},
	} {
		if bare.has(c.kind, c.name) {
			t.Errorf("%s %s is there without its operator", c.kind, c.name)
		}
		if !full.has(c.kind, c.name) {
			t.Errorf("%s %s is not there with its operator", c.kind, c.name)
		}
	}
	args := full.args(t, "Job", "rollcall-certificates-hook")
	if !slices.Contains(args, "--gossip-only") {
		t.Errorf("where cert-manager makes certificates, the Job does too: %v", args)
	}
	off := render(t, "--api-versions", "monitoring.coreos.com/v1", "--set", "monitoring.podMonitors=false")
	if off.has("PodMonitor", "rollcall-server") {
		t.Error("PodMonitors that were switched off are there")
	}
}

// What is rendered for kustomize is what is rendered for Helm.
func TestConfigDefaultHasTheSameObjects(t *testing.T) {
	raw, err := os.ReadFile("../../config/default/rollcall.yaml")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, o := range parse(t, string(raw)) {
		there[key(o)] = true
		if _, hook := o.GetAnnotations()["helm.sh/hook"]; hook {
			t.Errorf("%s has a hook, which kustomize does not know", key(o))
		}
	}
	for _, o := range render(t) {
		hook, ok := o.GetAnnotations()["helm.sh/hook"]
		if want := !ok || strings.Contains(hook, "pre-install"); there[key(o)] != want {
			t.Errorf("%s is in config/default: %v", key(o), there[key(o)])
		}
	}
}
