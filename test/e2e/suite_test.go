package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// TestFaults installs Rollcall and its clients, makes every fault, one after the
// other, and uninstalls.
func TestFaults(t *testing.T) {
	w := givenCluster(t)
	w.install(t)
	w.settle(t)
	for _, c := range []struct {
		name  string
		fault func(*testing.T, *scene)
	}{
		{"a server is stopped", stopped},
		{"a server is killed", killed},
		{"a server is starved by its CPU quota", starved},
		{"the leader is killed in the middle of a failover", leaderKilled},
		{"etcd loses one member, then all", etcdLost},
		{"the API server is stopped", apiStopped},
		{"servers are upgraded with 1000 clients", upgraded},
		{"a node is unplugged, then plugged in again", unplugged},
		{"a node is split from the others", splitOff},
		{"30 % of the packets to a node are lost", lossy},
		{"a node is powered off", poweredOff},
		{"a node is powered off, and tainted", tainted},
		// The last one: its clients stay.
		{"a server is stopped, with severing", severed},
	} {
		w.scene(t, c.name, c.fault)
		if t.Context().Err() != nil {
			break
		}
	}
	t.Run("what-cannot-be-is-refused", w.refused)
	w.report.write(t)
}

// settle brings everybody in, lets Rollcall act, and begins to watch.
func (w *world) settle(t *testing.T) {
	t.Helper()
	watching, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	w.line = follow(watching, w)
	w.people = &people{w: w}
	if err := w.allReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.policy(t.Context(), func(f *v1alpha1.FailoverPolicy) { f.Mode = v1alpha1.ModeAutomatic }); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.witness, err = w.watchSessions(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.witness.close)
	if err := w.people.come(t.Context(), w.home(t), sdkPod(sdkName, w.image(t), sdkClients), mosquittoPod(mosquittoName, mosquittos, mosquittoAlive)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.leave(t) })
	if err := w.allReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d clients are here", w.people.count)
}

// policy changes what is done about servers that don't answer.
func (w *world) policy(ctx context.Context, change func(*v1alpha1.FailoverPolicy)) error {
	var p v1alpha1.Presence
	if err := w.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "servers"}, &p); err != nil {
		return err
	}
	old := p.DeepCopy()
	change(&p.Spec.Servers.Failover)
	return w.api.Patch(ctx, &p, client.MergeFrom(old))
}

// leave takes the clients' namespace away.
func (w *world) leave(t *testing.T) {
	if *keep && t.Failed() {
		return
	}
	ctx, cancel := lasting(t)
	defer cancel()
	if _, err := w.run(ctx, "", w.kubectl, "delete", "namespace", peopleNamespace, "--ignore-not-found", "--timeout=3m"); err != nil {
		t.Error(err)
	}
}

// image is the one that the servers run.
func (w *world) image(t *testing.T) string {
	t.Helper()
	return w.pod(t, release+"-server-0").Spec.Containers[0].Image
}

// install installs the chart with no values at all, but for an image that was
// asked for, tells what it took, and uninstalls it in the end.
func (w *world) install(t *testing.T) {
	t.Helper()
	began := time.Now()
	took := w.installWith(t)
	text := fmt.Sprintf("`helm install` with no values: %s; everything Ready, nodes and servers counted: %s.\n", seconds(took), seconds(time.Since(began)))
	publish(t, "install", text)
	if out, err := w.run(t.Context(), "", w.helm, "test", release, "--namespace", namespace); err != nil {
		t.Errorf("helm test: %v\n%s", err, out)
	}
	table, err := w.run(t.Context(), "", w.kubectl, "get", "presence", "--all-namespaces")
	if err != nil {
		t.Error(err)
	}
	t.Logf("kubectl get presence -A\n%s", table)
}

// installWith installs the chart with values, `--set` and all, and uninstalls it in
// the end. It returns how long helm took, of the time until all is Ready.
func (w *world) installWith(t *testing.T, values ...string) time.Duration {
	t.Helper()
	t.Cleanup(func() { w.spawner.Close() })
	args := []string{
		"install", release, filepath.Join(w.root, "charts", "rollcall"), "--namespace", namespace, "--create-namespace", "--wait", "--timeout", "5m",
	}
	args = append(append(args, imageValues(t)...), values...)
	began := time.Now()
	out, err := w.run(t.Context(), "", w.helm, args...)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	t.Logf("%s: helm %v\n%s", seconds(took), args, out)
	t.Cleanup(func() {
		if *keep && t.Failed() {
			return
		}
		w.uninstall(t)
	})
	if err := w.allReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	return took
}
