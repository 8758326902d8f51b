package pods

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func aPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-0", UID: "uid", ResourceVersion: "7", Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{"long": "story"},
		},
		Spec: corev1.PodSpec{
			NodeName: "n1", HostNetwork: true,
			Containers: []corev1.Container{
				{Name: "sidecar", Image: "other"},
				{Name: "main", Image: "web", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}},
			},
			InitContainers: []corev1.Container{{Name: "proxy", Ports: []corev1.ContainerPort{{Name: "proxy", ContainerPort: 15001}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "nonsense"}, {IP: "fd00::1"}},
			ContainerStatuses:     []corev1.ContainerStatus{{Name: "sidecar", ContainerID: "containerd://aa", RestartCount: 3}, {Name: "main", ContainerID: "containerd://bb"}, {Name: "new"}},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "proxy", ContainerID: "containerd://cc"}, {Name: "once", ContainerID: "containerd://dd"}},
		},
	}
}

func TestWhereAPodIsReached(t *testing.T) {
	for _, tt := range []struct {
		name   string
		port   intstr.IntOrString
		change func(*corev1.Pod)
		want   string // empty: it is not
	}{
		{"by a name", intstr.FromString("http"), func(*corev1.Pod) {}, "10.0.0.1:8080"},
		{"by a number that no container names", intstr.FromInt32(9000), func(*corev1.Pod) {}, "10.0.0.1:9000"},
		{"by the name of a sidecar's port", intstr.FromString("proxy"), func(*corev1.Pod) {}, "10.0.0.1:15001"},
		{"at an address of IPv6", intstr.FromString("http"), func(p *corev1.Pod) { p.Status.PodIP = "fd00::1" }, "[fd00::1]:8080"},
		{"a name that it has not", intstr.FromString("grpc"), func(*corev1.Pod) {}, ""},
		{"a number that is no port's", intstr.FromInt32(70000), func(*corev1.Pod) {}, ""},
		{"no number", intstr.FromInt32(0), func(*corev1.Pod) {}, ""},
		{"one that has no address yet", intstr.FromString("http"), func(p *corev1.Pod) { p.Status.PodIP = "" }, ""},
		{"one that does not run yet", intstr.FromString("http"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }, ""},
		{"one that has ended", intstr.FromString("http"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := aPod()
			tt.change(p)
			got, ok := AddressOf(p, tt.port)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("it is at %q, %v, want %q", got, ok, tt.want)
			}
		})
	}
}

func TestAllAddressesOfAPod(t *testing.T) {
	p := aPod()
	p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "::ffff:10.0.0.2"})
	if got := fmt.Sprint(AddressesOf(p)); got != "[10.0.0.1 fd00::1 10.0.0.2]" {
		t.Errorf("they are %s", got)
	}
}

func TestWhichContainersServeAPort(t *testing.T) {
	for _, tt := range []struct {
		name string
		port uint16
		want string
	}{
		{"the one that has it", 8080, "[bb]"},
		{"a sidecar that has it", 15001, "[cc]"},
		{"all but init containers, where nobody says so", 9000, "[aa bb]"},
	} {
		p := aPod()
		o, err := Strip(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []*corev1.Pod{p, o.(*corev1.Pod)} {
			if got := fmt.Sprint(Serving(p, tt.port)); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
	}
	if got := Serving(&corev1.Pod{}, 80); got != nil {
		t.Errorf("of a pod that has just begun they are %q", got)
	}
}

// What is stripped off is read by nobody: all functions say the same of both.
func TestAStrippedPodSaysTheSame(t *testing.T) {
	p := aPod()
	o, err := Strip(p)
	if err != nil {
		t.Fatal(err)
	}
	s := o.(*corev1.Pod)
	if Name(s) != "shop/web-0" || s.UID != p.UID || s.ResourceVersion != "7" || s.Labels["app"] != "web" || s.Spec.NodeName != "n1" || !s.Spec.HostNetwork {
		t.Errorf("it is %+v", s)
	}
	if fmt.Sprint(AddressesOf(s)) != fmt.Sprint(AddressesOf(p)) || Finished(s) != Finished(p) {
		t.Errorf("it is at %v", AddressesOf(s))
	}
	for _, port := range []string{"http", "proxy", "none"} {
		want, known := AddressOf(p, intstr.FromString(port))
		if got, ok := AddressOf(s, intstr.FromString(port)); got != want || ok != known {
			t.Errorf("by %s it is at %q, want %q", port, got, want)
		}
	}
	if s.Annotations != nil || s.Spec.Containers[0].Image != "" || s.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("it keeps %+v", s)
	}
	node := &corev1.Node{}
	if o, err := Strip(node); o != any(node) || err != nil {
		t.Errorf("a node becomes %v, %v", o, err)
	}
}
