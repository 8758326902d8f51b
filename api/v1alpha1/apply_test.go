package v1alpha1_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rollcallac "github.com/rollcall-dev/rollcall/api/applyconfiguration/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

const (
	controller = client.FieldOwner("controller")
	person     = client.FieldOwner("person")
)

func (a api) presence(t *testing.T, name string) *v1alpha1.Presence {
	t.Helper()
	p := &v1alpha1.Presence{}
	if err := a.Get(t.Context(), client.ObjectKey{Namespace: a.namespace, Name: name}, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (a api) serversSpec() *rollcallac.PresenceSpecApplyConfiguration {
	return rollcallac.PresenceSpec().WithServers(rollcallac.ServersSpec().
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(map[string]string{"app": "broker"})).
		WithPort(intstr.FromString("mqtt")).
		WithProbe(rollcallac.ProbeSpec().WithMQTT(v1alpha1.MQTTProbe{})).
		WithOverload(rollcallac.OverloadSpec().WithAnswerTime(duration(300 * time.Millisecond))))
}

func TestApplyMakesAPresenceAndLeavesWhatOthersSet(t *testing.T) {
	a := newAPI(t)
	mine := rollcallac.Presence("servers", a.namespace).WithSpec(a.serversSpec())
	check(t, a.Apply(t.Context(), mine, controller))
	check(t, a.Apply(t.Context(), rollcallac.Presence("servers", a.namespace).WithSpec(rollcallac.PresenceSpec().
		WithServers(rollcallac.ServersSpec().WithFailover(rollcallac.FailoverPolicy().WithMode(v1alpha1.ModeAutomatic)))), person))
	again := rollcallac.Presence("servers", a.namespace).WithSpec(a.serversSpec())
	check(t, a.Apply(t.Context(), again, controller))

	got := a.presence(t, "servers").Spec.Servers
	if got.Failover.Mode != v1alpha1.ModeAutomatic {
		t.Errorf("mode is %s: the controller took back what a person had set", got.Failover.Mode)
	}
	if got.Overload.AnswerTime.Duration != 300*time.Millisecond || got.Overload.Observers != 3 {
		t.Errorf("overload is %+v, want what was applied and the defaults beside it", got.Overload)
	}
}

func (a api) servers(t *testing.T) {
	t.Helper()
	check(t, a.Apply(t.Context(), rollcallac.Presence("servers", a.namespace).WithSpec(a.serversSpec()), controller))
}

// overloaded is the status of a Presence of three servers, with one in trouble.
func (a api) overloaded() *rollcallac.PresenceApplyConfiguration {
	since := metav1.NewMicroTime(time.UnixMicro(1_700_000_000_123_456))
	return rollcallac.Presence("servers", a.namespace).WithStatus(rollcallac.PresenceStatus().
		WithObservedGeneration(1).
		WithSubject(v1alpha1.SubjectServers).
		WithMode(string(v1alpha1.ModeAutomatic)).
		WithReason(v1alpha1.ReasonOverloaded).
		WithCounts(rollcallac.PresenceCounts().WithMembers(3).WithAlive(2).WithSuspect(0).WithOverloaded(1).WithDead(0)).
		WithNotAlive(rollcallac.MemberStatus().WithName("server-2").WithState("Overloaded").WithSince(since).WithMessage("hung, by two of three")).
		WithConditions(metav1ac.Condition().WithType(v1alpha1.ConditionHealthy).WithStatus(metav1.ConditionFalse).
			WithReason(v1alpha1.ReasonOverloaded).WithMessage("server-2 is overloaded").WithObservedGeneration(1).
			WithLastTransitionTime(metav1.Unix(1_700_000_000, 0))))
}

func TestApplyWritesAPresencesStatus(t *testing.T) {
	a := newAPI(t)
	a.servers(t)
	check(t, a.Status().Apply(t.Context(), a.overloaded(), controller, client.ForceOwnership))

	one := int32(1)
	want := v1alpha1.PresenceStatus{
		ObservedGeneration: 1,
		Subject:            v1alpha1.SubjectServers,
		Mode:               string(v1alpha1.ModeAutomatic),
		Reason:             v1alpha1.ReasonOverloaded,
		Counts:             v1alpha1.PresenceCounts{Members: 3, Alive: 2, Overloaded: &one},
		NotAlive: []v1alpha1.MemberStatus{{
			Name: "server-2", State: "Overloaded", Message: "hung, by two of three",
			Since: metav1.NewMicroTime(time.UnixMicro(1_700_000_000_123_456)),
		}},
		Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionFalse, ObservedGeneration: 1,
			Reason: v1alpha1.ReasonOverloaded, Message: "server-2 is overloaded",
			LastTransitionTime: metav1.Unix(1_700_000_000, 0),
		}},
	}
	if diff := cmp.Diff(want, a.presence(t, "servers").Status, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestApplyingTheSameStatusWritesNothing(t *testing.T) {
	a := newAPI(t)
	a.servers(t)
	check(t, a.Status().Apply(t.Context(), a.overloaded(), controller, client.ForceOwnership))
	before := a.presence(t, "servers").ResourceVersion
	check(t, a.Status().Apply(t.Context(), a.overloaded(), controller, client.ForceOwnership))
	if after := a.presence(t, "servers").ResourceVersion; after != before {
		t.Errorf("the revision went from %s to %s", before, after)
	}
}

func TestApplyRemovesFromTheStatusWhatIsNotSaidAgain(t *testing.T) {
	a := newAPI(t)
	a.servers(t)
	check(t, a.Status().Apply(t.Context(), a.overloaded(), controller, client.ForceOwnership))
	well := a.overloaded()
	well.Status.Reason, well.Status.NotAlive = nil, nil
	check(t, a.Status().Apply(t.Context(), well, controller, client.ForceOwnership))
	if got := a.presence(t, "servers").Status; got.Reason != "" || len(got.NotAlive) != 0 {
		t.Errorf("still there: reason %q, notAlive %v", got.Reason, got.NotAlive)
	}
}

func TestApplyingTheStatusOfADeletedPresenceMakesNone(t *testing.T) {
	a := newAPI(t)
	if err := a.Status().Apply(t.Context(), a.overloaded(), controller, client.ForceOwnership); !apierrors.IsNotFound(err) {
		t.Errorf("got %v, want not found", err)
	}
}

func TestApplyFollowsAFailoverToItsEnd(t *testing.T) {
	a := newAPI(t)
	detected := metav1.NewMicroTime(time.UnixMicro(1_700_000_000_000_001))
	decision := func(incarnation string) *rollcallac.FailoverApplyConfiguration {
		return rollcallac.Failover("servers-2-k7x", a.namespace).WithSpec(rollcallac.FailoverSpec().
			WithPresence("servers").WithServer("server-2").WithIncarnation(incarnation).WithReason(v1alpha1.FailoverOverloaded).
			WithClients(700).WithDetectedAt(detected).
			WithTargets(rollcallac.FailoverTarget().WithServer("server-0").WithWeight(1), rollcallac.FailoverTarget().WithServer("server-1").WithWeight(1)))
	}
	check(t, a.Apply(t.Context(), decision("4f2a-1"), controller))
	check(t, a.Apply(t.Context(), decision("4f2a-1"), controller))
	checkRefused(t, a.Apply(t.Context(), decision("4f2a-2"), controller), refusal{"spec", msgImmutable})

	check(t, a.Status().Apply(t.Context(), rollcallac.Failover("servers-2-k7x", a.namespace).WithStatus(rollcallac.FailoverStatus().
		WithReceivers(2).WithMoved(688).WithPending(12).WithLost(0).WithDetectedAt(detected).
		WithMovedBy(rollcallac.MovedBy().WithDirective(0).WithOwnTimeout(688).WithSevered(0))), controller, client.ForceOwnership))

	got := &v1alpha1.Failover{}
	check(t, a.Get(t.Context(), client.ObjectKey{Namespace: a.namespace, Name: "servers-2-k7x"}, got))
	if got.Status.Moved != 688 || got.Status.MovedBy.OwnTimeout != 688 || !got.Status.DetectedAt.Time.Equal(got.Spec.DetectedAt.Time) {
		t.Errorf("status is %+v", got.Status)
	}
	mine, err := rollcallac.ExtractFailoverStatus(got, string(controller))
	check(t, err)
	if mine.Status == nil || mine.Status.Pending == nil || *mine.Status.Pending != 12 {
		t.Errorf("extracted %+v, want what the controller had applied", mine.Status)
	}
}

func TestANotAliveListPastItsBoundIsRefused(t *testing.T) {
	a := newAPI(t)
	a.servers(t)
	status := rollcallac.PresenceStatus()
	for i := range v1alpha1.MaxNotAlive + 1 {
		status.WithNotAlive(rollcallac.MemberStatus().WithName("server-" + string(rune('A'+i))).WithState("Dead"))
	}
	err := a.Status().Apply(t.Context(), rollcallac.Presence("servers", a.namespace).WithStatus(status), controller)
	checkRefused(t, err, refusal{"status.notAlive", "must have at most 32 items"})
}
