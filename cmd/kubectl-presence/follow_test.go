package main

import (
	"bytes"
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// step is a Failover as it is read at a moment after the start.
type step struct {
	at     time.Duration
	status v1alpha1.FailoverStatus
}

func TestProgressIsALineAChange(t *testing.T) {
	status := func(moved, pending int32, processing metav1.ConditionStatus, reason, message string) v1alpha1.FailoverStatus {
		s := v1alpha1.FailoverStatus{Moved: moved, Pending: pending, Conditions: progress(processing, reason, message)}
		if reason != v1alpha1.ReasonNoHeadroom {
			s.Receivers = 2
		}
		return s
	}
	waiting := v1alpha1.FailoverStatus{}
	room := status(0, 16021, metav1.ConditionTrue, v1alpha1.ReasonNoHeadroom, "server-1 and server-3 have less than 20 % of their capacity left")
	first := status(802, 15219, metav1.ConditionTrue, v1alpha1.ReasonMoving, "The directive is written.")
	more := status(9120, 6901, metav1.ConditionTrue, v1alpha1.ReasonMoving, "The directive is written.")
	for _, tt := range []struct {
		name  string
		steps []step
		fails bool
	}{
		{"moved", []step{
			{0, waiting},
			{500 * time.Millisecond, first},
			{time.Second, first},
			{1500 * time.Millisecond, more},
			{33 * time.Second, status(16021, 0, metav1.ConditionFalse, v1alpha1.ReasonMoved, "All 16021 clients are elsewhere, or gone.")},
		}, false},
		{"no-room-then-cancelled", []step{
			{0, room},
			{time.Second, room},
			{9 * time.Second, status(0, 16021, metav1.ConditionFalse, v1alpha1.ReasonCancelled, "Everything is paused by ann: new switches.")},
		}, true},
		{"nobody-takes-it-up", []step{{0, waiting}, {9 * time.Second, waiting}, {11 * time.Second, waiting}, {20 * time.Second, waiting}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			p := newPlugin(&b, &b)
			now := night
			p.now = func() time.Time { return now }
			v := view{p: p, began: now, heard: now}
			var failed error
			for _, s := range tt.steps {
				now = night.Add(s.at)
				fo := failoverOf("server-2-x7k4q", v1alpha1.FailoverDrain, night, s.status)
				done, err := v.show(&fo)
				if last := !open(&fo); done != last {
					t.Errorf("done %v after %v", done, s.at)
				}
				failed = err
			}
			if tt.fails != errors.As(failed, new(failure)) {
				t.Errorf("ended with %v", failed)
			}
			if failed != nil {
				b.WriteString("error: " + failed.Error() + "\n")
			}
			golden(t, "drain-"+tt.name, b.String())
		})
	}
}
