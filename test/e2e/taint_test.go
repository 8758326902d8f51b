package e2e

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// lodgers are ordinary pods that tolerate what Kubernetes has every pod tolerate. They run
// what every node has an image of: a client that finds no server.
const lodgers, lodgersCount = "lodgers", 4

var lodging = template.Must(template.New("lodgers").Parse(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{.Name}}, namespace: {{.Namespace}}}
spec:
  replicas: {{.Count}}
  selector: {matchLabels: {app: {{.Name}}}}
  template:
    metadata: {labels: {app: {{.Name}}}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - {weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [{{.Node}}]}]}}
      containers:
        - name: lodger
          image: {{.Image}}
          imagePullPolicy: IfNotPresent
          args: [crowd, --count=1, --presence=im/apps, "--servers=localhost:1"]
`))

// tainted powers off a node that is tainted when it is dead, and looks at how long its
// pods take to be elsewhere. Kubernetes by itself would leave them there for 300 s more
// than it needs to notice.
func tainted(t *testing.T, s *scene) {
	s.needFaults(t)
	s.must(s.upgrade("controller.taintNodes=true", "--wait"))
	s.must(s.onDead(t.Context(), v1alpha1.OnDeadTaint))
	t.Cleanup(func() {
		ctx, cancel := lasting(t)
		defer cancel()
		if err := s.onDead(ctx, v1alpha1.OnDeadAdvise); err != nil {
			t.Error(err)
		}
	})
	node := s.victim(t).Spec.NodeName
	s.lodge(t, node)
	s.must(s.allReady(t.Context()))

	mend := s.takeAway(node, s.faults.PowerOff, s.faults.PowerOn)
	s.line.say("nodes: DEAD 1 after %s", seconds(s.said(members, memberOf(nodes, node), time.Minute, dead)))
	s.line.say("tainted after %s", seconds(s.await(node+" to be tainted", time.Minute, func() (bool, error) {
		return s.hasTaint(node)
	})))
	s.line.say("its pods Ready elsewhere after %s", seconds(s.await("the pods of "+node+" to be elsewhere", 2*time.Minute, func() (bool, error) {
		away, well, err := s.lodgersOn(t.Context(), node)
		if err != nil {
			return false, err
		}
		return away == lodgersCount && well == lodgersCount, fmt.Errorf("of %d, %d are elsewhere, and %d are Ready", lodgersCount, away, well)
	})))
	s.lasts(darkFor)
	s.line.kubernetes("%s, and its pods are told to go 300 s later", s.unready(nodeReady, node))
	mend()
	s.await("the taint of "+node+" to be off", 2*time.Minute, func() (bool, error) {
		has, err := s.hasTaint(node)
		return err == nil && !has, err
	})
	s.line.say("after it was back: the taint off after %s", seconds(time.Since(s.mended)))
	s.await("the Presence to say how long it took", time.Minute, func() (bool, error) {
		var p v1alpha1.Presence
		if err := s.api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: nodes}, &p); err != nil {
			return false, err
		}
		for _, e := range p.Status.Evacuations {
			if e.Node == node && e.UntaintedAt != nil && e.Pods >= lodgersCount {
				s.line.say("status.evacuations: %d of %d pods elsewhere", e.Elsewhere, e.Pods)
				return true, nil
			}
		}
		return false, fmt.Errorf("its evacuations are %+v", p.Status.Evacuations)
	})
}

// onDead changes what is done about dead nodes.
func (w *world) onDead(ctx context.Context, mode v1alpha1.OnDeadMode) error {
	var p v1alpha1.Presence
	if err := w.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: nodes}, &p); err != nil {
		return err
	}
	old := p.DeepCopy()
	p.Spec.Nodes.OnDead.Mode = mode
	return w.api.Patch(ctx, &p, client.MergeFrom(old))
}

// lodge has ordinary pods run on a node.
func (s *scene) lodge(t *testing.T, node string) {
	t.Helper()
	var b bytes.Buffer
	s.must(lodging.Execute(&b, map[string]any{"Name": lodgers, "Namespace": peopleNamespace, "Count": lodgersCount, "Node": node, "Image": s.image(t)}))
	s.must(s.apply(t.Context(), b.String()))
	t.Cleanup(func() {
		ctx, cancel := lasting(t)
		defer cancel()
		if _, err := s.run(ctx, "", s.kubectl, "delete", "deployment", lodgers, "--namespace", peopleNamespace); err != nil {
			t.Error(err)
		}
	})
	s.await("pods to run on "+node, time.Minute, func() (bool, error) {
		away, well, err := s.lodgersOn(t.Context(), node)
		if err != nil {
			return false, err
		}
		return away == 0 && well == lodgersCount, fmt.Errorf("of %d, %d are elsewhere, and %d are Ready", lodgersCount, away, well)
	})
}

// lodgersOn counts the pods that are not on a node, and those of all that are Ready:
// the ones on a node without power stay in the list, being told to go.
func (s *scene) lodgersOn(ctx context.Context, node string) (away, well int, err error) {
	pods, err := s.kube.CoreV1().Pods(peopleNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + lodgers})
	if err != nil {
		return 0, 0, err
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.DeletionTimestamp != nil {
			continue
		}
		if p.Spec.NodeName != node {
			away++
		}
		if ready(p) {
			well++
		}
	}
	return away, well, nil
}

func (s *scene) hasTaint(name string) (bool, error) {
	node, err := s.kube.CoreV1().Nodes().Get(s.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == v1alpha1.UnreachableTaint && taint.Effect == corev1.TaintEffectNoExecute {
			return true, nil
		}
	}
	return false, nil
}
