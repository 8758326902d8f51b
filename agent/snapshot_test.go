package agent

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/agent/pods"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func testNode(name, zone string, addresses ...corev1.NodeAddress) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone, "other": "label"}},
		Status:     corev1.NodeStatus{Addresses: addresses},
	}
}

func testPod(namespace, name, node, ip string, ports ...corev1.ContainerPort) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "sidecar"}, {Name: "main", Ports: ports}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip},
	}
}

func servers(namespace, name string, port intstr.IntOrString) *v1alpha1.Presence {
	return &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{Port: port, Overload: v1alpha1.OverloadSpec{
			AnswerTime: metav1.Duration{Duration: 300 * time.Millisecond},
			Window:     metav1.Duration{Duration: 2 * time.Second}, Observers: 5,
		}}},
	}
}

func TestCompose(t *testing.T) {
	mqtt := corev1.ContainerPort{Name: "mqtt", ContainerPort: 1883}
	gossip := corev1.ContainerPort{Name: "gossip", ContainerPort: 7946}
	pending := testPod("rc", "agent-3", "n3", "10.1.0.3", gossip)
	pending.Status.Phase = corev1.PodPending
	failed := testPod("rc", "s-3", "n1", "10.2.0.3", mqtt)
	failed.Status.Phase = corev1.PodFailed

	young := servers("im", "chat", intstr.FromInt32(9000))
	young.Spec.Servers.Overload = v1alpha1.OverloadSpec{}
	got := compose(
		[]corev1.Node{
			testNode("n2", "z2", corev1.NodeAddress{Type: corev1.NodeHostName, Address: "n2"}, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "1.2.3.4"}),
			testNode("n1", "z1", corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "4.3.2.1"}, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}),
			testNode("n3", ""),
		},
		[]corev1.Pod{
			testPod("rc", "agent-2", "n2", "10.1.0.2", gossip), testPod("rc", "agent-1", "n1", "fd00::1", gossip),
			pending, testPod("rc", "agent-4", "n4", "", gossip), testPod("rc", "agent-5", "n5", "10.1.0.5"),
		},
		[]population{
			{servers("rc", "servers", intstr.FromString("mqtt")), []corev1.Pod{
				testPod("rc", "s-1", "n2", "10.2.0.1", mqtt), testPod("rc", "s-0", "n1", "10.2.0.0", mqtt),
				testPod("rc", "s-2", "", "10.2.0.2", corev1.ContainerPort{Name: "other", ContainerPort: 1}), failed,
			}},
			{servers("rc", "again", intstr.FromString("mqtt")), []corev1.Pod{
				testPod("rc", "s-1", "n2", "10.2.0.1", mqtt), testPod("rc", "x-0", "n2", "10.2.0.9", mqtt),
			}},
			{young, []corev1.Pod{testPod("im", "chat-0", "n3", "10.2.0.7"), failed}},
		},
	)
	want := &snapshot{
		nodes:  []Node{{"n1", "z1", "10.0.0.1"}, {"n2", "z2", "1.2.3.4"}, {"n3", "", ""}},
		agents: []Peer{{"n1", "[fd00::1]:7946"}, {"n2", "10.1.0.2:7946"}},
		servers: []Target{
			{"im/chat-0", "n3", "", "10.2.0.7:9000", 500 * time.Millisecond, time.Second, 3, "im/chat", "", false},
			{"rc/s-0", "n1", "z1", "10.2.0.0:1883", 300 * time.Millisecond, 2 * time.Second, 5, "rc/servers", "", false},
			{"rc/s-1", "n2", "z2", "10.2.0.1:1883", 300 * time.Millisecond, 2 * time.Second, 5, "rc/servers", "", false},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestStrippedObjectsComposeTheSame(t *testing.T) {
	node := testNode("n1", "z1", corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.1"})
	pod := testPod("rc", "s-0", "n1", "10.2.0.0", corev1.ContainerPort{Name: "mqtt", ContainerPort: 1883})
	sidecar := testPod("rc", "s-1", "n1", "10.2.0.1")
	sidecar.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "mqtt", ContainerPort: 1884}}}}
	populations := func(pods ...corev1.Pod) []population {
		return []population{{servers("rc", "servers", intstr.FromString("mqtt")), pods}}
	}
	want := compose([]corev1.Node{node}, nil, populations(pod, sidecar))
	if len(want.servers) != 2 {
		t.Fatalf("servers %v", want.servers)
	}
	strip := func(p *corev1.Pod) corev1.Pod {
		o, err := pods.Strip(p)
		if err != nil {
			t.Fatal(err)
		}
		return *o.(*corev1.Pod)
	}
	n, err := stripNode(&node)
	if err != nil {
		t.Fatal(err)
	}
	got := compose([]corev1.Node{*n.(*corev1.Node)}, nil, populations(strip(&pod), strip(&sidecar)))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}
