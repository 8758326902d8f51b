package main

import (
	"bytes"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func TestTheInstallationThatAPresenceNamesIsAsked(t *testing.T) {
	w := newWorld(t)
	w.pod(w.namespace, "server-2", map[string]string{"app": "broker"})
	p := w.presence("servers", map[string]string{"app": "broker"})
	before := client.MergeFrom(p.DeepCopy())
	p.Labels = map[string]string{v1alpha1.InstallationLabel: w.system}
	if err := w.api.Patch(t.Context(), p, before); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		var out, errs bytes.Buffer
		run(t.Context(), append(args, "--kubeconfig", w.cp.AdminKubeconfig(), "-n", w.namespace), newPlugin(&out, &errs))
		return out.String() + errs.String()
	}
	asked := "no pod in namespace " + w.system + " is labelled as a controller"
	for _, args := range [][]string{{"why", "server-2"}, {"who", "phone-1", "--presence", "servers"}} {
		if said := ask(args...); !strings.Contains(said, asked) {
			t.Errorf("%v: %s", args, said)
		}
	}
	if said := ask("why", "server-2", "--system-namespace", "mine"); !strings.Contains(said, "no pod in namespace mine is labelled") {
		t.Errorf("the one that a person names: %s", said)
	}
	if said := ask("drain", "server-2"); !strings.Contains(said, "created") {
		t.Fatal(said)
	}
	var all v1alpha1.FailoverList
	if err := w.api.List(t.Context(), &all, client.InNamespace(w.namespace)); err != nil {
		t.Fatal(err)
	}
	if len(all.Items) != 1 || v1alpha1.InstallationOf(&all.Items[0]) != w.system {
		t.Errorf("the Failover does not name its installation: %+v", all.Items)
	}
}
