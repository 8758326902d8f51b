package adoption

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestAChangeIsMadeInWhatItWasPlannedFor(t *testing.T) {
	change := Change{
		Object: Object{Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Name: "web-1", UID: "1"},
		Edits:  []Edit{{Path: []string{"metadata", "labels", key}, To: on}},
	}
	back := Change{Object: change.Object, Edits: []Edit{{Path: change.Edits[0].Path, From: on}}}
	for _, tt := range []struct {
		name        string
		change      Change
		uid         string
		labels      map[string]any
		patch, says string
	}{
		{"as it was", change, "1", map[string]any{"app": "web"}, `{"metadata":{"labels":{"rollcall.dev/accepting":"true"},"resourceVersion":"7"}}`, ""},
		{"without any labels", change, "1", nil, `{"metadata":{"labels":{"rollcall.dev/accepting":"true"},"resourceVersion":"7"}}`, ""},
		{"made already", change, "1", map[string]any{key: on}, "", ""},
		{"changed meanwhile", change, "1", map[string]any{key: off}, "", "has changed meanwhile, to false"},
		{"another of its name", change, "2", map[string]any{"app": "web"}, "", "made anew meanwhile"},
		{"taken back", back, "1", map[string]any{key: on}, `{"metadata":{"labels":{"rollcall.dev/accepting":null},"resourceVersion":"7"}}`, ""},
		{"taken back already", back, "1", nil, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			meta := map[string]any{"uid": tt.uid, "resourceVersion": "7"}
			if tt.labels != nil {
				meta["labels"] = tt.labels
			}
			patch, err := tt.change.Patch(&unstructured.Unstructured{Object: map[string]any{"metadata": meta}})
			if string(patch) != tt.patch || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s, %v", patch, err)
			}
		})
	}
}

func TestWhatIsAwaited(t *testing.T) {
	type fields = map[string]any
	statefulSet := func(current string, ready, seen int64) fields {
		return fields{"kind": "StatefulSet", "spec": fields{"replicas": int64(2)}, "status": fields{
			"observedGeneration": seen, "currentRevision": current, "updateRevision": "db-2", "readyReplicas": ready,
		}}
	}
	daemonSet := func(updated, available int64) fields {
		return fields{"kind": "DaemonSet", "status": fields{
			"observedGeneration": int64(3), "desiredNumberScheduled": int64(2), "updatedNumberScheduled": updated, "numberAvailable": available,
		}}
	}
	for _, tt := range []struct {
		name  string
		await Await
		now   fields
		met   bool
	}{
		{"nothing", Nothing, fields{}, true},
		{"no status yet", Observed, fields{}, false},
		{"an earlier generation was seen", Observed, statefulSet("db-1", 2, 2), false},
		{"this generation was seen", Observed, statefulSet("db-1", 2, 3), true},
		{"a StatefulSet in the middle", RolledOut, statefulSet("db-1", 2, 3), false},
		{"a StatefulSet whose last pod is not ready", RolledOut, statefulSet("db-2", 1, 3), false},
		{"a StatefulSet whose controller has not begun", RolledOut, statefulSet("db-2", 2, 2), false},
		{"a StatefulSet", RolledOut, statefulSet("db-2", 2, 3), true},
		{"a DaemonSet in the middle", RolledOut, daemonSet(1, 2), false},
		{"a DaemonSet whose last pod is not available", RolledOut, daemonSet(2, 1), false},
		{"a DaemonSet", RolledOut, daemonSet(2, 2), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if met := tt.await.Met(&unstructured.Unstructured{Object: tt.now}, 3); met != tt.met {
				t.Errorf("met: %v", met)
			}
		})
	}
}
