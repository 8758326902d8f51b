package judge

import (
	"slices"
	"testing"

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
			d := diversion(c.pods, c.services, web)
			if _, reason, message := d.Say(); d.Holds() != c.holds || reason != c.reason || message == "" {
				t.Errorf("holds %v, %s: %s", d.Holds(), reason, message)
			}
			if c.reason == v1alpha1.ReasonNotLabelled && !slices.Equal(d.Unlabelled, []string{"web-1"}) {
				t.Errorf("not labelled are %v", d.Unlabelled)
			}
		})
	}
}
