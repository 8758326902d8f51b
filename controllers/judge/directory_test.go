package judge

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// shelf is a cache that holds what a test puts on it, and counts how often it is asked.
type shelf struct {
	presences []v1alpha1.Presence
	pods      []corev1.Pod
	services  []corev1.Service
	nodes     []corev1.Node
	lists     int
}

func (s *shelf) Get(_ context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	return fmt.Errorf("%v is not on the shelf", key)
}

// List copies what is selected, as the cache does that copies nothing deeply.
func (s *shelf) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	s.lists++
	var o client.ListOptions
	o.ApplyOptions(options)
	wanted := func(m *metav1.ObjectMeta) bool {
		return (o.Namespace == "" || m.Namespace == o.Namespace) && (o.LabelSelector == nil || o.LabelSelector.Matches(labels.Set(m.Labels)))
	}
	switch l := list.(type) {
	case *v1alpha1.PresenceList:
		l.Items = slices.Clone(s.presences)
	case *corev1.NodeList:
		l.Items = slices.Clone(s.nodes)
	case *v1alpha1.FailoverList:
	case *corev1.PodList:
		for i := range s.pods {
			if wanted(&s.pods[i].ObjectMeta) {
				l.Items = append(l.Items, s.pods[i])
			}
		}
	case *corev1.ServiceList:
		for i := range s.services {
			if wanted(&s.services[i].ObjectMeta) {
				l.Items = append(l.Items, s.services[i])
			}
		}
	default:
		return fmt.Errorf("no %T is on the shelf", list)
	}
	return nil
}

// labelling draws few labels with few values, so that many have them in common.
func labelling(t *rapid.T, name string, accepting bool) map[string]string {
	drawn := map[string]string{}
	for _, key := range []string{"app", "part-of", "tier"} {
		if v := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, name+" "+key); v != "" {
			drawn[key] = v
		}
	}
	if v := rapid.SampledFrom([]string{"", "true", "false"}).Draw(t, name+" accepting"); accepting && v != "" {
		drawn[v1alpha1.AcceptingLabel] = v
	}
	return drawn
}

func requirement(t *rapid.T, key string, operator selection.Operator, values ...string) labels.Requirement {
	r, err := labels.NewRequirement(key, operator, values)
	if err != nil {
		t.Fatal(err)
	}
	return *r
}

func namesOf(pods []corev1.Pod) []string {
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

// Whoever asks first or late, it finds what looking through all finds.
func TestADirectoryFindsWhatLookingThroughAllFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &shelf{}
		for i := range rapid.IntRange(0, 12).Draw(t, "pods") {
			s.pods = append(s.pods, corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("pod-", i), Labels: labelling(t, "pod", true)},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}}},
			})
		}
		for i := range rapid.IntRange(0, 12).Draw(t, "services") {
			s.services = append(s.services, corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("service-", i)},
				Spec: corev1.ServiceSpec{
					Selector: labelling(t, "service", true), ClusterIP: rapid.SampledFrom([]string{"10.0.0.1", corev1.ClusterIPNone}).Draw(t, "address"),
					Ports: []corev1.ServicePort{{Port: 80}},
				},
			})
		}
		// Of another namespace nothing is ever found.
		s.pods = append(s.pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "other", Labels: map[string]string{"app": "a"}}})
		s.services = append(s.services, corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "other"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "a"}, Ports: []corev1.ServicePort{{Port: 80}}},
		})
		d := newDirectory(s)
		for ask := range few + 4 {
			selector := labels.SelectorFromSet(labelling(t, "selector", false))
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				selector = labels.Nothing() // as of a Presence whose selector can't be read
			case 1:
				selector = selector.Add(requirement(t, "app", selection.In, "a", "b"))
			case 2:
				selector = selector.Add(requirement(t, "tier", selection.NotIn, "a"))
			case 3:
				selector = selector.Add(requirement(t, "app", selection.DoesNotExist))
			}
			var want corev1.PodList
			if err := s.List(t.Context(), &want, client.InNamespace("shop"), client.MatchingLabelsSelector{Selector: selector}); err != nil {
				t.Fatal(err)
			}
			got, err := d.pods(t.Context(), "shop", selector)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(namesOf(got), namesOf(want.Items)) {
				t.Fatalf("ask %d: %s picks %v, want %v", ask, selector, namesOf(got), namesOf(want.Items))
			}
			var all corev1.ServiceList
			if err := s.List(t.Context(), &all, client.InNamespace("shop")); err != nil {
				t.Fatal(err)
			}
			some, err := d.services(t.Context(), "shop", got)
			if err != nil {
				t.Fatal(err)
			}
			port := intstr.FromString("web")
			for _, mode := range []v1alpha1.DivertMode{v1alpha1.DivertLabel, v1alpha1.DivertReadinessGate} {
				if got, want := diversion(mode, got, some, port), diversion(mode, want.Items, all.Items, port); !reflect.DeepEqual(got, want) {
					t.Fatalf("ask %d: with %s it says %+v, want %+v", ask, mode, got, want)
				}
			}
		}
	})
}

// Many Presences of a namespace have it read once; a few only what they select.
func TestANamespaceOfManyPresencesIsReadOnce(t *testing.T) {
	s := &shelf{}
	d := newDirectory(s)
	for range 10 * few {
		if _, err := d.pods(t.Context(), "shop", labels.SelectorFromSet(labels.Set{"app": "a"})); err != nil {
			t.Fatal(err)
		}
		if _, err := d.services(t.Context(), "shop", nil); err != nil {
			t.Fatal(err)
		}
	}
	if want := few + 1 + 1; s.lists != want {
		t.Errorf("it asked %d times, want %d", s.lists, want)
	}
}
