package adoption

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

var rewrite = flag.Bool("rewrite", false, "write the plans into testdata")

// words are all that a person reads of a plan.
func words(p Plan, err error) string {
	if err != nil {
		return "refused: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, n := range p.Notes {
		b.WriteString("note: " + n + "\n")
	}
	b.WriteString(p.Diff())
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func TestPlansReadWell(t *testing.T) {
	labelledOff := func(s *State) { s.Pods[0].Labels[key] = off }
	for _, tt := range []struct {
		name   string
		o      Options
		state  State
		change func(*State)
	}{
		{"a-deployment", Options{}, shop(), nil},
		{"a-deployment-undone", Options{Undo: true}, adopted(shop()), nil},
		{"a-deployment-done-already", Options{}, adopted(shop()), nil},
		{"a-deployment-never-adopted-undone", Options{Undo: true}, shop(), nil},
		{"a-deployment-left-in-the-middle", Options{}, shop(), func(s *State) {
			s.Deployments[0].Spec.Paused, s.Deployments[0].Labels = true, map[string]string{HeldLabel: on}
			s.ReplicaSets[1].Spec.Template.Labels[key] = on
		}},
		{"a-deployment-left-in-the-middle-undone", Options{Undo: true}, shop(), func(s *State) {
			s.Deployments[0].Spec.Paused, s.Deployments[0].Labels = true, map[string]string{HeldLabel: on}
			s.ReplicaSets[1].Spec.Template.Labels[key] = on
		}},
		{"a-deployment-that-a-person-paused", Options{}, shop(), func(s *State) { s.Deployments[0].Spec.Paused = true }},
		{"a-deployment-that-another-makes", Options{}, shop(), func(s *State) {
			s.Deployments[0].OwnerReferences = by("Shop", "shop")
		}},
		{"a-statefulset-ondelete", Options{}, database("OnDelete"), nil},
		{"a-statefulset-restarted", Options{Restart: true}, database("RollingUpdate"), nil},
		{"a-statefulset-undone", Options{Restart: true, Undo: true}, adopted(database("RollingUpdate")), nil},
		{"a-daemonset-ondelete", Options{}, gateway("OnDelete"), nil},
		{"a-daemonset-restarted", Options{Restart: true}, gateway("RollingUpdate"), nil},
		{"a-replicaset-alone", Options{}, shop(), func(s *State) {
			s.Deployments, s.ReplicaSets[1].OwnerReferences = nil, nil
		}},
		{"a-pod-alone", Options{}, shop(), func(s *State) { s.Pods, s.Pods[0].OwnerReferences = s.Pods[:1], nil }},
		{"a-pod-out-of-service", Options{}, shop(), labelledOff},
		{"a-pod-out-of-service-undone", Options{Undo: true}, adopted(shop()), labelledOff},
		{"a-pod-of-another-kind-with-the-label", Options{}, shop(), func(s *State) {
			s.Pods, s.Pods[0].OwnerReferences = s.Pods[:1], by("Job", "batch")
			s.Pods[0].Labels[key] = on
		}},
		{"another-service-leads-there", Options{}, shop(), func(s *State) {
			headless := service("web-headless", map[string]string{"app": "web"})
			headless.Spec.ClusterIP = corev1.ClusterIPNone
			s.Services = append(s.Services, service("web-internal", map[string]string{"app": "web"}), headless)
		}},
		{"another-service-follows-undone", Options{Undo: true}, adopted(shop()), func(s *State) {
			s.Services = append(s.Services, service("web-internal", map[string]string{"app": "web", key: on}))
		}},
		{"no-pods-undone", Options{Undo: true}, adopted(shop()), func(s *State) { s.Pods = nil }},
		{"a-presence-that-leads-nobody-past", Options{}, diverting(gateway("OnDelete"), v1alpha1.DivertNone, 0), nil},
		{"a-presence-that-goes-by-labels", Options{}, diverting(gateway("OnDelete"), v1alpha1.DivertLabel, 0), nil},
		{"pods-with-the-readiness-gate", Options{}, diverting(shop(), v1alpha1.DivertReadinessGate, 2), nil},
		{"pods-with-the-readiness-gate-undone", Options{Undo: true}, diverting(adopted(gateway("OnDelete")), v1alpha1.DivertReadinessGate, 1), nil},
		{"a-presence-that-is-not-honoured", Options{}, diverting(gateway("OnDelete"), v1alpha1.DivertReadinessGate, 0), func(s *State) {
			s.Presences[0].Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse}}
		}},
		{"a-straggler", Options{}, adopted(shop()), func(s *State) { delete(s.Pods[1].Labels, key) }},
		{"pods-that-have-ended-are-none", Options{}, adopted(shop()), func(s *State) {
			delete(s.Pods[1].Labels, key)
			s.Pods[1].Status.Phase = corev1.PodFailed
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change != nil {
				tt.change(&tt.state)
			}
			got := words(New(tt.state, tt.o))
			path := filepath.Join("testdata", tt.name+".txt")
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("%s (-rewrite renews it): %s", path, d)
			}
		})
	}
}

func TestWhatCantBeDoneIsOneSentence(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      Options
		state  State
		change func(*State)
		says   string
	}{
		{"a Service without pods of its own", Options{}, shop(), func(s *State) { s.Service.Spec.Selector = nil }, "has no spec.selector"},
		{"a Service that is another name", Options{}, shop(), func(s *State) {
			s.Service.Spec.Type, s.Service.Spec.ExternalName = corev1.ServiceTypeExternalName, "web.example"
		}, "adopt the one that selects the pods"},
		{"a Service that selects the label alone", Options{Undo: true}, shop(), func(s *State) {
			s.Service.Spec.Selector = map[string]string{key: on}
		}, "add to its spec.selector"},
		{"a Service that selects who is out of service", Options{}, shop(), func(s *State) { s.Service.Spec.Selector[key] = off }, "correct its spec.selector"},
		{"no pods", Options{}, shop(), func(s *State) { s.Pods = nil }, "start its pods"},
		{"all pods out of service", Options{}, shop(), func(s *State) {
			for i := range s.Pods {
				s.Pods[i].Labels[key] = off
			}
		}, "would lead to no pod"},
		{"all that are ready out of service", Options{}, shop(), func(s *State) {
			s.Pods[0].Labels[key] = off
			s.Pods[1].Status.Conditions = nil
		}, "would lead to no pod"},
		{"a value that means nothing", Options{}, shop(), func(s *State) { s.Pods[1].Labels[key] = "yes" }, "kubectl label pod web-1-b -n shop rollcall.dev/accepting-"},
		{"undone while a pod is out of service", Options{Undo: true}, adopted(shop()), func(s *State) { s.Pods[1].Labels[key] = off }, "delete the Failover or the pod"},
		{"a template that makes pods out of service", Options{}, shop(), func(s *State) {
			s.Deployments[0].Spec.Template.Labels[key] = off
		}, `set it to "true", or take it out`},
		{"a Deployment in the middle of a rollout", Options{}, shop(), func(s *State) { s.ReplicaSets[0].Spec.Replicas = new(int32(1)) }, "kubectl rollout status deployment/web"},
		{"a Deployment whose rollout has not begun", Options{}, shop(), func(s *State) {
			s.Deployments[0].Spec.Template.Spec.Containers[0].Image = "web:3"
		}, "is being rolled out"},
		{"a template with the label, and not all pods are of it", Options{}, shop(), func(s *State) {
			s.Deployments[0].Spec.Template.Labels[key] = on
		}, "is being rolled out"},
		{"a Deployment that a person paused with changes", Options{}, shop(), func(s *State) {
			s.Deployments[0].Spec.Paused = true
			s.Deployments[0].Spec.Template.Spec.Containers[0].Image = "web:3"
		}, "resume it"},
		{"an older revision that Kubernetes would go back to", Options{}, shop(), func(s *State) {
			s.ReplicaSets[0].Spec.Template.Spec.Containers[0].Image = "web:2"
			s.ReplicaSets[0].Spec.Template.Labels[key] = on
		}, "kubectl delete replicaset web-0 -n shop"},
		{"a StatefulSet that would be restarted", Options{}, database("RollingUpdate"), nil, "allow that with --restart"},
		{"a StatefulSet with a partition", Options{Restart: true}, database("RollingUpdate"), func(s *State) {
			s.StatefulSets[0].Spec.UpdateStrategy.RollingUpdate = partition(1)
		}, "partition 1"},
		{"a StatefulSet in the middle of a rollout", Options{}, database("RollingUpdate"), func(s *State) {
			s.StatefulSets[0].Spec.Template.Labels[key] = on
			s.StatefulSets[0].Status.UpdateRevision = "db-2"
		}, "kubectl rollout status statefulset/db"},
		{"a DaemonSet that would be restarted", Options{}, gateway("RollingUpdate"), nil, "allow that with --restart"},
		{"pods that lack the readiness gate", Options{Restart: true}, diverting(shop(), v1alpha1.DivertReadinessGate, 1), nil,
			"pod/web-1-b lacks the readiness gate, which only a rollout gives: put conditionType: rollcall.dev/accepting into spec.readinessGates of the pod template of Deployment web"},
		{"a Service that leads to pods that are not Ready", Options{}, diverting(shop(), v1alpha1.DivertReadinessGate, 2), func(s *State) {
			s.Service.Spec.PublishNotReadyAddresses = true
		}, "take publishNotReadyAddresses off it"},
		{"a pod alone that lacks the readiness gate", Options{}, diverting(shop(), v1alpha1.DivertReadinessGate, 0), func(s *State) { s.Pods[0].OwnerReferences = nil }, "of whatever makes it"},
		{"pods of a StatefulSet that lack the readiness gate", Options{}, diverting(database("OnDelete"), v1alpha1.DivertReadinessGate, 0), nil, "of StatefulSet db"},
		{"a pod that something else makes", Options{}, shop(), func(s *State) { s.Pods[0].OwnerReferences = by("Job", "batch") }, "made by Job batch"},
		{"a ReplicaSet that something else makes", Options{}, shop(), func(s *State) {
			s.ReplicaSets[1].OwnerReferences = by("Rollout", "web-rollout")
		}, "made by Rollout web-rollout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change != nil {
				tt.change(&tt.state)
			}
			p, err := New(tt.state, tt.o)
			if err == nil {
				t.Fatalf("planned:\n%s", words(p, nil))
			}
			if said := err.Error(); !strings.Contains(said, tt.says) || strings.Contains(said, "\n") {
				t.Errorf("%q lacks %q", said, tt.says)
			}
		})
	}
}

func TestWhatCameBetweenStopsTheLastStep(t *testing.T) {
	s := shop()
	plan, err := New(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan.Steps[:len(plan.Steps)-1] {
		apply(t, &s, plan.Steps[i])
	}
	left, err := New(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Remaining(); err != nil || len(left.Steps) != 1 || !left.Steps[0].Last {
		t.Fatalf("all is done but the last step, and %v is left:\n%s", err, left.Diff())
	}
	s.Pods = append(s.Pods, pod("web-1-c", map[string]string{"app": "web"}, s.Pods[0].OwnerReferences))
	left, err = New(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Remaining(); err == nil || !strings.Contains(err.Error(), "pod/web-1-c") {
		t.Errorf("a pod without the label has come, and the last step is allowed: %v", err)
	}
}

func TestWhoIsLeftPausedIsKnown(t *testing.T) {
	plan, err := New(shop(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Pods, pause, ReplicaSets, resume, Service.
	for failed, want := range []string{"", "deployment.apps/web", "deployment.apps/web", "deployment.apps/web", ""} {
		if got := plan.Held(failed); got != want {
			t.Errorf("after a failure in step %d: %q, want %q", failed+1, got, want)
		}
	}
}
