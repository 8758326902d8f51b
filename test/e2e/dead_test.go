package e2e

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

func TestNodesThatWereHeldDeadAreTakenFromTheTimeline(t *testing.T) {
	says := func(kind, name string, r row) change { return change{subject: subject{kind, name}, row: r} }
	got := heldDead([]change{
		says(presences, nodes, row{"Dead": "1"}),
		says(members, "nodes/a", row{"State": "Suspect"}),
		says(members, "nodes/b", row{"State": "Dead"}),
		says(members, "servers/c", row{"State": "Dead"}),
		says(members, "nodes/b", nil),
		says(members, "nodes/d", row{"State": "Dead"}),
		says(members, "nodes/b", row{"State": "Dead"}),
	})
	if want := []string{"b", "d"}; !slices.Equal(got, want) {
		t.Errorf("they are %v, want %v", got, want)
	}
}

// With a real API server: what it says of a Presence, and whom it names.
func TestTheTimelineReadsWhoIsNotAlive(t *testing.T) {
	cp := controlplane.ForTest(t)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api, err := client.New(cp.AdminConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{}
	if w.kube, err = kubernetes.NewForConfig(cp.AdminConfig()); err != nil {
		t.Fatal(err)
	}
	p := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Name: nodes, Namespace: cp.Namespace(t, "timeline")},
		Spec:       v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{}},
	}
	if err := api.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	p.Status.Counts = v1alpha1.PresenceCounts{Members: 3, Alive: 1, Dead: 1, Suspect: 1}
	p.Status.NotAlive = []v1alpha1.MemberStatus{{Name: "node-1", State: string(verdict.Dead)}, {Name: "node-2", State: string(verdict.Suspect)}}
	if err := api.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	l := &timeline{w: w, columns: map[string][]string{}}
	seen := map[subject]row{}
	if err := l.table(t.Context(), presences, "presences", seen); err != nil {
		t.Fatal(err)
	}
	if got := seen[subject{presences, nodes}]["Dead"]; got != "1" {
		t.Errorf("its line says %q are dead: %v", got, seen)
	}
	for name, state := range map[string]verdict.State{"node-1": verdict.Dead, "node-2": verdict.Suspect} {
		if got := seen[subject{members, memberOf(nodes, name)}]["State"]; got != string(state) {
			t.Errorf("%s is %q, want %s: %v", name, got, state, seen)
		}
	}
}
