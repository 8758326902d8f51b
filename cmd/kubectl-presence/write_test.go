package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/explain"
)

var rewrite = flag.Bool("rewrite", false, "write what is printed into testdata")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
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
}

var night = time.Date(2026, 3, 1, 3, 12, 7, 0, time.UTC)

func ago(d time.Duration) time.Time { return night.Add(-d) }

func hung() *explain.Judgement {
	dur := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	return &explain.Judgement{
		Server: "im/server-2", Presence: "im/servers", Mode: "Automatic", At: ago(40 * time.Millisecond), Controller: "controller-0", Leading: true,
		State: "Overloaded", Since: ago(12 * time.Second), Reason: "NotAnswering", Proven: true,
		Message: "2 of 3 observers (node-4 in a, node-5 in b) wait 1.4s for an answer that the kernel has acknowledged",
		Evidence: explain.Evidence{
			Observers: []explain.Observer{
				{Name: "node-4", Zone: "a", Says: "hung", Since: ago(13 * time.Second), Detail: "oldest unanswered ping 14.1s old, acknowledged by the kernel"},
				{Name: "node-5", Zone: "b", Says: "hung", Since: ago(12 * time.Second), Detail: "oldest unanswered ping 13.9s old, acknowledged by the kernel"},
				{Name: "node-6", Zone: "c", Says: "ok", Since: ago(26 * time.Hour), Answer: dur(3120 * time.Microsecond), Ignored: "its own health is poor"},
			},
			Incarnation: "u.1", Record: "live", Node: "node-2", NodeState: "Alive", Zone: "a",
			QueueDelay: dur(0), LeftLate: 184, LeftLateLimit: 161, Sessions: 16021, AnswerTime: dur(500 * time.Millisecond), Recovery: dur(5 * time.Second),
		},
		Changes: []string{
			"It would be Dead if, for instance, node-4 and node-5 were refused a connection.",
			"It will be Alive once node-4 and node-5 get answers in time, for 5s without a break.",
		},
	}
}

func failoverOf(name string, reason v1alpha1.FailoverReason, created time.Time, s v1alpha1.FailoverStatus) v1alpha1.Failover {
	return v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "im", CreationTimestamp: metav1.NewTime(created)},
		Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2", Reason: reason}, Status: s,
	}
}

func progress(processing metav1.ConditionStatus, reason, message string) []metav1.Condition {
	succeeded := metav1.ConditionUnknown
	if processing == metav1.ConditionFalse {
		succeeded = metav1.ConditionFalse
		if reason == v1alpha1.ReasonMoved || reason == v1alpha1.ReasonRecovered {
			succeeded = metav1.ConditionTrue
		}
	}
	return []metav1.Condition{
		{Type: v1alpha1.ConditionProcessing, Status: processing, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(night)},
		{Type: v1alpha1.ConditionSucceeded, Status: succeeded, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(night)},
	}
}

func TestReportsReadWellAtThreeInTheMorning(t *testing.T) {
	moving := failoverOf("server-2-x7k4q", v1alpha1.FailoverOverloaded, ago(11*time.Second), v1alpha1.FailoverStatus{
		Receivers: 2, Moved: 9120, Pending: 6901, Conditions: progress(metav1.ConditionTrue, v1alpha1.ReasonMoving, ""),
	})
	earlier := failoverOf("server-2-9dq2z", v1alpha1.FailoverDrain, ago(75*time.Hour), v1alpha1.FailoverStatus{
		Receivers: 2, Moved: 15880, Lost: 3, Conditions: progress(metav1.ConditionFalse, v1alpha1.ReasonMoved, "All are elsewhere."),
	})
	fresh := failoverOf("server-2-new00", v1alpha1.FailoverDrain, ago(time.Second), v1alpha1.FailoverStatus{})

	standby := hung()
	standby.Leading, standby.Exempt = false, "Paused"
	well := hung()
	well.State, well.Since, well.Message = "Alive", ago(26*time.Hour), "3 of 3 observers get answers in time"
	for i, o := range well.Evidence.Observers {
		o.Says, o.Since, o.Detail, o.Ignored = "ok", ago(26*time.Hour), "", ""
		o.Answer.Duration = time.Duration(i+2) * 700 * time.Microsecond
		well.Evidence.Observers[i] = o
	}
	well.Evidence.LeftLate = 0
	well.Evidence.QueueDelay.Duration = 2 * time.Millisecond
	well.Changes = []string{"It would be Overloaded if, for instance, node-4 and node-5 got no answer for 1.4s."}
	nobody := hung()
	nobody.State, nobody.Message, nobody.Evidence.Observers = "Unknown", "None of its 0 observers says anything that counts", nil
	nobody.Changes = []string{"No agent can observe it: one on another node must be running and online."}

	for name, r := range map[string]report{
		"overloaded": {
			Server: "im/server-2", Presence: "im/servers", Mode: "Automatic", Pod: &podState{Accepting: "false"},
			Judgement: hung(), Failovers: []v1alpha1.Failover{moving, earlier},
		},
		"alive": {Server: "im/server-2", Presence: "im/servers", Mode: "Advise", Pod: &podState{Accepting: "true"}, Judgement: well},
		"not-ready": {
			Server: "im/server-2", Presence: "im/servers", Mode: "Automatic", Pod: &podState{Accepting: "true", Gate: corev1.ConditionFalse}, Judgement: hung(),
		},
		"braked": {
			Server: "im/server-2", Presence: "im/servers", Mode: "Automatic", Pod: &podState{Accepting: "true"}, Judgement: hung(),
			Frozen: &explain.Frozen{Reason: "TooManyLost", Message: "2 of 5 servers are lost (im/server-2, im/server-4), and at most 1 may be: nothing is done", Since: ago(9 * time.Second)},
		},
		"exempt-told-by-a-standby": {
			Server: "im/server-2", Presence: "im/servers", Mode: "Automatic", Pod: &podState{}, Judgement: standby,
			Exempt: []string{"pod/server-2", "presence/servers"},
		},
		"unwatched": {Server: "im/server-2", Presence: "im/servers", Mode: "Off", Judgement: nobody, Failovers: []v1alpha1.Failover{fresh}},
		"api-alone": {
			Server: "im/server-2", Presence: "im/servers", Mode: "Automatic", Pod: &podState{Accepting: "false"},
			Status:      &statusVerdict{State: "Overloaded", Since: ago(12 * time.Second), Message: hung().Message},
			FrozenKnown: true,
			Unasked:     "pod controller-0 may not be asked by you: that takes the right to get pods/proxy", Failovers: []v1alpha1.Failover{moving},
		},
		"api-alone-and-stale": {
			Server: "im/server-2", Presence: "im/servers", Mode: "Automatic", Pod: &podState{Accepting: "true"},
			Status: &statusVerdict{
				State: "Alive", Message: "It is not among the servers that the status lists as not alive",
				Stale: "The controller can't judge at the moment (StoreAway), and this is the last that was known: etcd has not answered for 5s or more",
			},
			Frozen:  &explain.Frozen{Reason: "StoreAway", Message: "etcd has not answered for 5s or more: nothing is done"},
			Unasked: "no pod in namespace rollcall-system is labelled as a controller",
		},
		"controller-alone": {
			Server: "im/server-2", Presence: "im/servers", Mode: "Automatic", Judgement: hung(),
			Unread: "listing the Presences in namespace im: the Kubernetes API at https://k doesn't answer: choose another with --context, or mend it (connection refused)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := r.write(&b, night); err != nil {
				t.Fatal(err)
			}
			golden(t, "why-"+name, b.String())
		})
	}
}

func TestSessionsReadWell(t *testing.T) {
	every := metav1.Duration{Duration: 4*time.Minute + 30*time.Second}
	var b bytes.Buffer
	err := writeSessions(&b, []explain.Session{
		{Presence: "im/android", Server: "im/server-1", Online: true, ServerState: "Alive", Since: ago(50 * time.Minute), Interval: every},
		{Presence: "im/desktop", Server: "im/server-2", Online: true, ServerState: "Overloaded", Since: ago(3 * time.Hour), Interval: every},
		{Presence: "im/ios", Server: "im/server-9", Since: ago(2 * time.Hour), LastSeen: ago(123 * time.Minute), Interval: every},
	}, night)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "who", b.String())
}
