package quarantine

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/retry"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const namespace = "rollcall"

// ward is a Warden over an API server that fails when it is told to.
type ward struct {
	*Warden
	t      *testing.T
	tenure *lead.Tenure

	mu      sync.Mutex
	away    bool // nothing is answered
	refuses bool // nodes may not be patched
	asked   int  // how often it was asked whether they may
	listed  int  // how often pods were
	touched int
}

// in plays with a ward in a bubble of time of its own.
func in(t *testing.T, play func(*ward), objects ...client.Object) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &ward{t: t, tenure: &lead.Tenure{Leadership: &store.Leadership{}, Context: t.Context()}}
		api := fake.NewClientBuilder().WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				question, ok := o.(*authorizationv1.SelfSubjectAccessReview)
				if !ok {
					return c.Create(ctx, o, options...)
				}
				w.asked++
				question.Status.Allowed = !w.refuses
				return w.answer()
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, options ...client.PatchOption) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if err := w.answer(); err != nil {
					return err
				}
				return c.Patch(ctx, o, p, options...)
			},
			List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, options ...client.ListOption) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if _, pods := l.(*corev1.PodList); pods {
					w.listed++
				}
				return c.List(ctx, l, options...)
			},
		}).Build()
		logger := slog.New(slog.DiscardHandler)
		retrier, err := retry.New(logger, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		var background sync.WaitGroup
		touch := func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.touched++
		}
		w.Warden = &Warden{
			Client: api, Live: api, Installation: namespace, Recorder: events.NewFakeRecorder(100), Logger: logger, Now: time.Now, Touch: touch,
			Once: &retry.Once{Retry: retrier, Logger: logger, Now: time.Now, Go: background.Go, Done: func() {}},
		}
		play(w)
		background.Wait()
	})
}

// answer fails while the API server is away. The caller holds mu.
func (w *ward) answer() error {
	if w.away {
		return apierrors.NewServiceUnavailable("away")
	}
	return nil
}

func (w *ward) set(away, refuses bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away, w.refuses = away, refuses
}

// keep judges all nodes as in a state, and lets that be acted on for a while. A
// Presence is named for its mode.
func (w *ward) keep(state verdict.State, for_ time.Duration, modes ...v1alpha1.OnDeadMode) {
	w.t.Helper()
	r := &judge.Result{
		World: verdict.World{Now: time.Now(), Warm: true}, Nodes: verdict.Judgement{Verdicts: map[string]verdict.Verdict{}},
		Machines: map[string]judge.Machine{}, Populations: map[types.NamespacedName]*judge.Population{},
	}
	var members []string
	for _, n := range w.nodes() {
		members = append(members, n.Name)
		r.Machines[n.Name] = judge.MachineOf(&n)
		r.Nodes.Verdicts[n.Name] = verdict.Verdict{State: state, Proven: true}
	}
	for _, mode := range modes {
		p := &v1alpha1.Presence{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: string(mode)},
			Spec:       v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{OnDead: v1alpha1.OnDeadPolicy{Mode: mode}}},
		}
		r.Populations[client.ObjectKeyFromObject(p)] = &judge.Population{Presence: p, Subject: v1alpha1.SubjectNodes, Members: members}
	}
	w.Keep(w.tenure, r)
	synctest.Wait()
	time.Sleep(for_)
	synctest.Wait()
}

func (w *ward) nodes() []corev1.Node {
	w.t.Helper()
	var all corev1.NodeList
	if err := w.Client.List(w.t.Context(), &all); err != nil {
		w.t.Fatal(err)
	}
	return all.Items
}

func (w *ward) tainted(node string) bool {
	w.t.Helper()
	return slices.ContainsFunc(w.nodes(), func(n corev1.Node) bool { return n.Name == node && judge.MachineOf(&n).HasTaint })
}

func node(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }

// evicted is a pod of a controller that has been told to go.
func evicted(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: strings.Repeat("n", 63), Name: name, UID: types.UID(name), DeletionTimestamp: new(metav1.Now()), Finalizers: []string{"a/kubelet"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: "db", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{NodeName: node},
	}
}

const taint, advise = v1alpha1.OnDeadTaint, v1alpha1.OnDeadAdvise

func TestADeadNodeIsTaintedAndFreedAgain(t *testing.T) {
	in(t, func(w *ward) {
		w.keep(verdict.Dead, time.Second, taint) // asks
		w.keep(verdict.Dead, time.Minute, taint)
		if !w.tainted("a") {
			t.Fatal("it is not tainted")
		}
		w.keep(verdict.Alive, time.Minute, taint)
		if w.tainted("a") {
			t.Error("the taint stays")
		}
	}, node("a"))
}

func TestATaintThatIsDecidedNoMoreIsNotTriedAgain(t *testing.T) {
	in(t, func(w *ward) {
		w.keep(verdict.Alive, time.Second, taint) // asks
		w.set(true, false)
		w.keep(verdict.Dead, 0, taint)
		w.set(false, false)
		w.keep(verdict.Alive, time.Minute, taint)
		if w.tainted("a") {
			t.Error("it came back before it was tainted")
		}
	}, node("a"))
}

func TestWhatIsNotDoneIsToldToThoseWhoWantIt(t *testing.T) {
	in(t, func(w *ward) {
		told := func(mode v1alpha1.OnDeadMode) bool {
			_, blocked := w.Report(types.NamespacedName{Namespace: namespace, Name: string(mode)})
			return blocked != ""
		}
		for _, c := range []struct {
			what    string
			refused bool
			state   verdict.State
			modes   []v1alpha1.OnDeadMode
			want    bool
		}{
			{"it may", false, verdict.Alive, []v1alpha1.OnDeadMode{taint, advise}, false},
			{"there are too many", false, verdict.Dead, []v1alpha1.OnDeadMode{taint, advise}, true},
			{"they are back", false, verdict.Alive, []v1alpha1.OnDeadMode{taint, advise}, false},
			{"it may not", true, verdict.Alive, []v1alpha1.OnDeadMode{taint, advise}, true},
			{"nobody wants it any more", true, verdict.Alive, []v1alpha1.OnDeadMode{advise}, false},
		} {
			w.set(false, c.refused)
			for range 3 { // it is asked seldom
				w.keep(c.state, time.Minute, c.modes...)
			}
			if told(taint) != c.want {
				t.Errorf("%s: told: %v", c.what, !c.want)
			}
			if told(advise) {
				t.Errorf("%s: it is told to who wants no taints", c.what)
			}
		}
	}, node("a"), node("b"))
}

func TestAQuestionThatFailsIsAskedAgainSoon(t *testing.T) {
	in(t, func(w *ward) {
		w.set(true, false)
		w.keep(verdict.Dead, 15*time.Second, taint)
		w.set(false, false)
		for range 10 {
			w.keep(verdict.Dead, time.Second, taint)
		}
		if !w.tainted("a") {
			t.Error("it is not tainted though it may be")
		}
		asked := w.asked
		for range 25 {
			w.keep(verdict.Dead, time.Second, taint)
		}
		if w.asked > asked+1 {
			t.Errorf("it was asked %d times though the answer is known", w.asked-asked)
		}
	}, node("a"))
}

func TestWhatIsSaidOfAnEvacuationFitsIntoAStatus(t *testing.T) {
	var objects []client.Object
	for _, letter := range "bcd" {
		objects = append(objects, evicted(strings.Repeat(string(letter), 253), "a"))
	}
	in(t, func(w *ward) {
		for range 3 {
			w.keep(verdict.Dead, time.Second, taint)
		}
		all, _ := w.Report(types.NamespacedName{Namespace: namespace, Name: string(taint)})
		if len(all) != 1 || all[0].Pods != 3 || all[0].Message == "" || len(all[0].Message) > 1024 { // which is what the API takes
			t.Errorf("it says %+v", all)
		}
	}, append(objects, node("a"))...)
}

func TestPodsAreLookedAtWhileTheyAreWaitedFor(t *testing.T) {
	in(t, func(w *ward) {
		w.keep(verdict.Dead, time.Second, taint) // asks
		w.keep(verdict.Dead, 5*time.Second, taint)
		w.keep(verdict.Dead, 0, taint)
		if w.touched = 0; w.listed != 1 {
			t.Fatalf("pods were looked at %d times", w.listed)
		}
		w.keep(verdict.Dead, 0, taint)
		w.keep(verdict.Dead, countEvery, taint)
		if w.listed != 1 || w.touched != 1 {
			t.Errorf("a look that came too soon is made up for: %d looks, touched %d times", w.listed, w.touched)
		}

		made := evicted("made", "b")
		made.DeletionTimestamp, made.Finalizers, made.CreationTimestamp = nil, nil, metav1.Now()
		made.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		if err := w.Client.Create(t.Context(), made); err != nil {
			t.Fatal(err)
		}
		w.keep(verdict.Dead, countEvery, taint)
		if all, _ := w.Report(types.NamespacedName{Namespace: namespace, Name: string(taint)}); len(all) != 1 || all[0].Took == nil {
			t.Fatalf("the pod is elsewhere: %+v", all)
		}
		before := w.listed
		w.touched = 0
		for range 24 {
			w.keep(verdict.Dead, countSeldom/8, taint)
		}
		if n := w.listed - before; n != 2 || w.touched != 0 {
			t.Errorf("nobody is waited for in %v: %d looks, touched %d times", 3*countSeldom, n, w.touched)
		}
	}, node("a"), evicted("db", "a"))
}

func TestATaintThatAPersonPutsOnAfterOursStays(t *testing.T) {
	in(t, func(w *ward) {
		w.keep(verdict.Dead, time.Second, taint) // asks
		w.keep(verdict.Dead, time.Minute, taint)
		by := func(taints ...corev1.Taint) {
			t.Helper()
			n := w.nodes()[0]
			n.Spec.Taints = taints
			if err := w.Client.Update(t.Context(), &n); err != nil {
				t.Fatal(err)
			}
		}
		theirs := corev1.Taint{Key: v1alpha1.UnreachableTaint, Effect: corev1.TaintEffectNoExecute}
		claimed := func() bool { return w.nodes()[0].Annotations[v1alpha1.TaintedByAnnotation] != "" }
		if !w.tainted("a") || !claimed() {
			t.Fatal("it is not tainted")
		}
		by(theirs) // at once, while the annotation is there
		w.keep(verdict.Alive, time.Minute, taint)
		if !w.tainted("a") || claimed() {
			t.Errorf("tainted: %v, claimed: %v", w.tainted("a"), claimed())
		}
		by()
		w.keep(verdict.Dead, time.Minute, taint)
		by()
		w.keep(verdict.Alive, time.Minute, taint)
		if claimed() {
			t.Error("what a person has taken off is claimed still")
		}
	}, node("a"))
}
