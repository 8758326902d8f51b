package judge

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func TestWhoLeadsPastAServerThatIsTakenOut(t *testing.T) {
	pod := func(name, accepting string) corev1.Pod {
		p := corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
				{Name: "web", ContainerPort: 8080}, {Name: "metrics", ContainerPort: 9090},
			}}}},
		}
		if accepting != "" {
			p.Labels[v1alpha1.AcceptingLabel] = accepting
		}
		return p
	}
	service := func(name string, follows bool, target intstr.IntOrString) corev1.Service {
		s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.7", Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 8080, TargetPort: target}},
		}}
		if follows {
			s.Spec.Selector[v1alpha1.AcceptingLabel] = "true"
		}
		return s
	}
	web, metrics := intstr.FromString("web"), intstr.FromString("metrics")
	headless, other, external := service("web-pods", false, web), service("shop", true, web), service("outside", false, web)
	headless.Spec.ClusterIP = corev1.ClusterIPNone
	other.Spec.Selector["app"] = "shop"
	external.Spec.Selector = nil
	both := []corev1.Pod{pod("web-0", "true"), pod("web-1", "false")}
	for _, c := range []struct {
		name     string
		pods     []corev1.Pod
		services []corev1.Service
		holds    bool // for those that are labelled
		reason   string
	}{
		{"the Service follows the label", both, []corev1.Service{service("web", true, web)}, true, v1alpha1.ReasonDiverted},
		{"and names the port by its number", both, []corev1.Service{service("web", true, intstr.FromInt32(8080))}, true, v1alpha1.ReasonDiverted},
		{"or not at all", both, []corev1.Service{service("web", true, intstr.IntOrString{})}, true, v1alpha1.ReasonDiverted},
		{"there is none", both, nil, false, v1alpha1.ReasonNoService},
		{"it is others'", both, []corev1.Service{other, external}, false, v1alpha1.ReasonNoService},
		{"it leads to another port", both, []corev1.Service{service("web", true, metrics)}, false, v1alpha1.ReasonNoService},
		{"one does not follow", both, []corev1.Service{service("web", true, web), service("old", false, web)}, false, v1alpha1.ReasonNotFollowing},
		{"one that does not follow leads to another port", both, []corev1.Service{service("web", true, web), service("metrics", false, metrics)}, true, v1alpha1.ReasonDiverted},
		{"one has no address of its own", both, []corev1.Service{service("web", true, web), headless}, true, v1alpha1.ReasonDiverted},
		{"a pod is not labelled", []corev1.Pod{pod("web-0", "true"), pod("web-1", "")}, []corev1.Service{service("web", true, web)}, true, v1alpha1.ReasonNotLabelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := diversion(v1alpha1.DivertLabel, c.pods, c.services, web)
			if _, reason, message := d.Say(); d.Holds() != c.holds || reason != c.reason || message == "" {
				t.Errorf("holds %v, %s: %s", d.Holds(), reason, message)
			}
			if c.reason == v1alpha1.ReasonNotLabelled && !slices.Equal(d.Lacking, []string{"web-1"}) {
				t.Errorf("not labelled are %v", d.Lacking)
			}
		})
	}
}

func TestWhoLeadsPastAServerThatIsNotReady(t *testing.T) {
	pod := func(name, kind string, gated bool) corev1.Pod {
		p := corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": "web", "kind": kind}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
				{Name: "web", ContainerPort: 8080}, {Name: "metrics", ContainerPort: 9090},
			}}}},
		}
		if gated {
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "else.where/ready"}, {ConditionType: v1alpha1.AcceptingGate}}
		}
		return p
	}
	service := func(name string, selector map[string]string, target string) corev1.Service {
		return corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.7", Selector: selector, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString(target)}},
		}}
	}
	app := map[string]string{"app": "web"}
	web, metrics, blue := service("web", app, "web"), service("metrics", app, "metrics"), service("blue", map[string]string{"app": "web", "kind": "blue"}, "web")
	following := service("following", map[string]string{"app": "web", v1alpha1.AcceptingLabel: "true"}, "web")
	unready, peers, unreadyMetrics := service("unready", app, "web"), service("peers", app, "web"), service("unready-metrics", app, "metrics")
	unready.Spec.PublishNotReadyAddresses, peers.Spec.PublishNotReadyAddresses, unreadyMetrics.Spec.PublishNotReadyAddresses = true, true, true
	peers.Spec.ClusterIP = corev1.ClusterIPNone
	both := []corev1.Pod{pod("web-0", "blue", true), pod("web-1", "green", true)}
	labelled := pod("web-3", "green", true)
	labelled.Labels[v1alpha1.AcceptingLabel] = "true"
	ended := pod("web-2", "green", false)
	ended.Status.Phase = corev1.PodSucceeded
	for _, c := range []struct {
		name      string
		mode      v1alpha1.DivertMode
		forbidden bool
		pods      []corev1.Pod
		services  []corev1.Service
		holds     bool // for those with the gate
		reason    string
	}{
		{"every Service follows as it is", v1alpha1.DivertReadinessGate, false, both, []corev1.Service{web, blue}, true, v1alpha1.ReasonDiverted},
		{"also one that follows the label", v1alpha1.DivertReadinessGate, false, []corev1.Pod{labelled}, []corev1.Service{following}, true, v1alpha1.ReasonDiverted},
		{"but not without the label", v1alpha1.DivertReadinessGate, false, both, []corev1.Service{following}, false, v1alpha1.ReasonNoService},
		{"a pod that has ended needs no gate", v1alpha1.DivertReadinessGate, false, append([]corev1.Pod{ended}, both...), []corev1.Service{web}, true, v1alpha1.ReasonDiverted},
		{"there is no Service", v1alpha1.DivertReadinessGate, false, both, nil, false, v1alpha1.ReasonNoService},
		{"it leads to another port", v1alpha1.DivertReadinessGate, false, both, []corev1.Service{metrics}, false, v1alpha1.ReasonNoService},
		{"one publishes pods that are not Ready", v1alpha1.DivertReadinessGate, false, both, []corev1.Service{web, unready}, false, v1alpha1.ReasonNotFollowing},
		{"one without an address does", v1alpha1.DivertReadinessGate, false, both, []corev1.Service{web, peers}, true, v1alpha1.ReasonDiverted},
		{"one of another port does", v1alpha1.DivertReadinessGate, false, both, []corev1.Service{web, unreadyMetrics}, true, v1alpha1.ReasonDiverted},
		{"a pod lacks the gate", v1alpha1.DivertReadinessGate, false, []corev1.Pod{both[0], pod("web-1", "green", false)}, []corev1.Service{web}, true, v1alpha1.ReasonNotGated},
		{"the controller may not", v1alpha1.DivertReadinessGate, true, both, []corev1.Service{web}, false, v1alpha1.ReasonMayNotSetGates},
		{"nobody asks for it", v1alpha1.DivertNone, false, both, []corev1.Service{web, following}, false, v1alpha1.ReasonNotAsked},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := diversion(c.mode, c.pods, c.services, intstr.FromString("web"))
			d.Forbidden = c.forbidden
			diverted, reason, message := d.Say()
			if d.Holds() != c.holds || reason != c.reason || message == "" || diverted != (reason == v1alpha1.ReasonDiverted) {
				t.Errorf("holds %v, %s: %s", d.Holds(), reason, message)
			}
			if c.reason == v1alpha1.ReasonNotGated && !slices.Equal(d.Lacking, []string{"web-1"}) {
				t.Errorf("the gate is lacked by %v", d.Lacking)
			}
		})
	}
	d := diversion(v1alpha1.DivertReadinessGate, append(both, labelled), []corev1.Service{web, metrics, blue, unready, following}, intstr.FromString("web"))
	three := []string{"shop/web-0", "shop/web-1", "shop/web-3"}
	want := map[string][]string{"web": three, "metrics": three, "blue": {"shop/web-0"}, "following": {"shop/web-3"}}
	if diff := cmp.Diff(want, d.Ready); diff != "" {
		t.Errorf("which Services lead to which pods while they are Ready: %s", diff)
	}
}

func TestWhoCanBeTakenOutAndWhoIs(t *testing.T) {
	label := Diversion{Mode: v1alpha1.DivertLabel, Following: []string{"web"}}
	gate, none, unsaid := label, label, label
	gate.Mode, none.Mode, unsaid.Mode = v1alpha1.DivertReadinessGate, v1alpha1.DivertNone, ""
	forbidden := gate
	forbidden.Forbidden = true
	in := Pod{Labelled: true, Accepting: "true", Gated: true, Gate: corev1.ConditionTrue}
	byLabel, byGate, neither := in, in, in
	byLabel.Accepting, byGate.Gate = "false", corev1.ConditionFalse
	neither.Labelled, neither.Accepting, neither.Gated, neither.Gate = false, "", false, ""
	for _, c := range []struct {
		name           string
		d              Diversion
		pod            Pod
		from, past, to bool
	}{
		{"by label, in", label, in, true, false, true},
		{"by label, out", label, byLabel, true, true, true},
		{"by label, the gate says nothing", label, byGate, true, false, true},
		{"by label, which it lacks", label, neither, false, false, false},
		{"of an older API", unsaid, byLabel, true, true, true},
		{"by gate, in", gate, in, true, false, true},
		{"by gate, out", gate, byGate, true, true, true},
		{"by gate, the label says nothing", gate, byLabel, true, false, true},
		{"by gate, which it lacks", gate, neither, false, false, true},
		{"by gate, which may not be set", forbidden, byGate, false, false, true},
		{"by nothing", none, byLabel, false, false, true},
		{"by nothing, and without a label", none, neither, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if from, past, to := c.d.From(c.pod), c.d.Past(c.pod), c.d.To(c.pod); from != c.from || past != c.past || to != c.to {
				t.Errorf("from it %v, past it %v, to it %v", from, past, to)
			}
		})
	}
}
