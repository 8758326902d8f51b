package gate

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/internal/store"
)

func gated(name string, is corev1.ConditionStatus) judge.Pod {
	return judge.Pod{Name: name, UID: types.UID("uid of " + name), Gated: true, Gate: is, Ready: is == corev1.ConditionTrue}
}

// words are turns as a table has them.
func words(all []turn) []string {
	var said []string
	for _, t := range all {
		said = append(said, t.pod.Name+" "+string(t.to))
	}
	return said
}

func TestWhichConditionsAreTurned(t *testing.T) {
	const yes, no = corev1.ConditionTrue, corev1.ConditionFalse
	but := func(p judge.Pod, change func(*judge.Pod)) judge.Pod {
		change(&p)
		return p
	}
	web := map[string][]string{"web": {"a", "b", "c"}}
	for _, c := range []struct {
		name         string
		mode         v1alpha1.DivertMode
		services     map[string][]string
		pods         []judge.Pod
		out, leaving []string
		turned, kept []string
	}{
		{"nothing is to be done", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", yes), gated("b", yes)}, nil, nil, nil, nil},
		{"one is taken out", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", yes), gated("b", yes)}, []string{"a"}, []string{"a"}, []string{"a False"}, nil},
		{"one that is out stays so", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", no), gated("b", yes)}, []string{"a"}, nil, nil, nil},
		{"one is let in", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", no), gated("b", yes)}, nil, nil, []string{"a True"}, nil},
		{"not before its Failover has ended", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", no), gated("b", yes)}, nil, []string{"a"}, nil, nil},
		{"one that was never told is welcomed, not turned", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", ""), gated("b", yes)}, nil, nil, nil, nil},
		{"but not while it is to be out", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", ""), gated("b", yes)}, []string{"a"}, nil, []string{"a False"}, nil},
		{"one without the gate has no condition", v1alpha1.DivertReadinessGate, web, []judge.Pod{but(gated("a", ""), func(p *judge.Pod) { p.Gated = false }), gated("b", yes)}, []string{"a"}, nil, nil, nil},
		{"one that ends is left", v1alpha1.DivertReadinessGate, web, []judge.Pod{but(gated("a", yes), func(p *judge.Pod) { p.Terminating = true }), gated("b", yes)}, []string{"a"}, nil, nil, nil},
		{"nobody goes by conditions", v1alpha1.DivertLabel, nil, []judge.Pod{gated("a", yes), gated("b", yes)}, []string{"a"}, nil, nil, nil},
		{"nobody goes by conditions any more", v1alpha1.DivertLabel, nil, []judge.Pod{gated("a", no), gated("b", yes)}, nil, nil, []string{"a True"}, nil},
		{"nobody is led past servers any more", v1alpha1.DivertNone, nil, []judge.Pod{gated("a", no), gated("b", yes)}, nil, nil, []string{"a True"}, nil},
		{"the last one stays", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", yes)}, []string{"a"}, nil, nil, []string{"a"}},
		{"of two one is out already", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", no), gated("b", yes)}, []string{"a", "b"}, nil, nil, []string{"b"}},
		{"both are to be taken out at once", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", yes), gated("b", yes)}, []string{"a", "b"}, nil, nil, []string{"a", "b"}},
		{"the other is not Ready", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", yes), but(gated("b", yes), func(p *judge.Pod) { p.Ready = false })}, []string{"a"}, nil, nil, []string{"a"}},
		{"the other ends", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", yes), but(gated("b", yes), func(p *judge.Pod) { p.Terminating = true })}, []string{"a"}, nil, nil, []string{"a"}},
		{"the other is let in, and not Ready yet", v1alpha1.DivertReadinessGate, web, []judge.Pod{gated("a", yes), gated("b", no)}, []string{"a"}, nil, []string{"b True"}, []string{"a"}},
		{"another Service leads to it alone", v1alpha1.DivertReadinessGate, map[string][]string{"web": {"a", "b"}, "first": {"a"}}, []judge.Pod{gated("a", yes), gated("b", yes)}, []string{"a"}, nil, nil, []string{"a"}},
		{"another Service leads to the other alone", v1alpha1.DivertReadinessGate, map[string][]string{"web": {"a", "b"}, "second": {"b"}}, []judge.Pod{gated("a", yes), gated("b", yes)}, []string{"a"}, nil, []string{"a False"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			directives, leaving := map[string]store.Directive{}, map[string]bool{}
			for _, p := range c.out {
				directives[p] = store.Directive{Drain: true}
			}
			for _, p := range c.leaving {
				leaving[p] = true
			}
			all, kept := turns(judge.Diversion{Mode: c.mode, Ready: c.services}, c.pods, directives, leaving)
			if d := cmp.Diff(c.turned, words(all)); d != "" {
				t.Errorf("turned are: %s", d)
			}
			if d := cmp.Diff(c.kept, kept); d != "" {
				t.Errorf("kept are: %s", d)
			}
		})
	}
}

func TestWhoMayBeEvicted(t *testing.T) {
	ending := gated("a", corev1.ConditionFalse)
	ending.Terminating = true
	for _, c := range []struct {
		name string
		mode v1alpha1.DivertMode
		pod  judge.Pod
		may  bool
	}{
		{"one that is led past by its label", v1alpha1.DivertLabel, gated("a", corev1.ConditionTrue), true},
		{"a heartbeat server", "", judge.Pod{Name: "a"}, true},
		{"one that is not Ready by its gate", v1alpha1.DivertReadinessGate, gated("a", corev1.ConditionFalse), true},
		{"one that stays, for a Service has no other", v1alpha1.DivertReadinessGate, gated("a", corev1.ConditionTrue), false},
		{"one that ends anyway", v1alpha1.DivertReadinessGate, ending, false},
	} {
		if may := evictable(judge.Diversion{Mode: c.mode}, c.pod); may != c.may {
			t.Errorf("%s: %v", c.name, may)
		}
	}
}

// cluster is what the property plays: pods with the gate, whose writes take a while.
type cluster struct {
	services   map[string][]string
	pods       []judge.Pod // as they are, and as the cache has them
	well       []bool      // their containers are ready
	directives map[string]store.Directive
	pending    []turn          // on their way
	wanted     map[string]bool // by the last look, to be False
}

// look is what Keep does.
func (c *cluster) look() {
	all, _ := turns(judge.Diversion{Mode: v1alpha1.DivertReadinessGate, Ready: c.services}, c.pods, c.directives, nil)
	clear(c.wanted)
	for _, w := range all {
		c.wanted[w.pod.Name] = w.to == corev1.ConditionFalse
	}
	c.pending = append(c.pending, all...)
}

// land carries out one write, unless it is to take out a pod that is not to be any
// more, and the kubelet follows.
func (c *cluster) land(w turn) {
	for i := range c.pods {
		if p := &c.pods[i]; p.Name == w.pod.Name && (w.to == corev1.ConditionTrue || c.wanted[p.Name]) {
			p.Gate, p.Ready = w.to, c.well[i] && w.to == corev1.ConditionTrue
		}
	}
}

// ready is how many endpoints each Service has.
func (c *cluster) ready() map[string]int {
	n := map[string]int{}
	for name, leads := range c.services {
		for _, p := range c.pods {
			if p.Ready && slices.Contains(leads, p.Name) {
				n[name]++
			}
		}
	}
	return n
}

func TestNoServiceIsEmptied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{services: map[string][]string{}, directives: map[string]store.Directive{}, wanted: map[string]bool{}}
		for i := range rapid.IntRange(1, 5).Draw(t, "pods") {
			p := gated(fmt.Sprint("pod-", i), corev1.ConditionTrue)
			c.pods, c.well = append(c.pods, p), append(c.well, true)
			for _, s := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"web", "metrics", "blue"}), rapid.ID[string]).Draw(t, "services") {
				c.services[s] = append(c.services[s], p.Name)
			}
		}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			i := rapid.IntRange(0, len(c.pods)-1).Draw(t, "pod")
			p := &c.pods[i]
			switch rapid.SampledFrom([]string{"out", "in", "crash", "heal", "look", "land"}).Draw(t, "what") {
			case "out":
				c.directives[p.Name] = store.Directive{Drain: true}
			case "in":
				delete(c.directives, p.Name)
			case "crash": // while nothing is on its way: who crashes then is not our doing
				if len(c.pending) == 0 {
					c.well[i], p.Ready = false, false
				}
			case "heal":
				c.well[i], p.Ready = true, p.Gate == corev1.ConditionTrue
			case "look":
				c.look()
			case "land":
				if len(c.pending) == 0 {
					continue
				}
				at := rapid.IntRange(0, len(c.pending)-1).Draw(t, "which")
				w := c.pending[at]
				c.pending = slices.Delete(c.pending, at, at+1)
				before := c.ready()
				c.land(w)
				after := c.ready()
				for s, n := range before {
					if n > 0 && after[s] == 0 {
						t.Fatalf("%s %s leaves Service %s without endpoints", w.pod.Name, w.to, s)
					}
				}
			}
		}
	})
}
