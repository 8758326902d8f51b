package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/server"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// TestPresencesOfAnotherInstallationAreKnownAsSuch follows a real API server.
func TestPresencesOfAnotherInstallationAreKnownAsSuch(t *testing.T) {
	cp := controlplane.ForTest(t)
	namespace := cp.Namespace(t, "im")
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api, err := client.New(cp.AdminConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	phones := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "phones"},
		Spec:       v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{}},
	}
	if err := api.Create(t.Context(), phones); err != nil {
		t.Fatal(err)
	}
	watch := func(ours v1alpha1.Installation) *server.Watched {
		w, err := server.NewPresences(cp.AdminConfig(), ours, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		return w
	}
	first, second := watch(v1alpha1.Installation{Namespace: "a"}), watch(v1alpha1.Installation{Namespace: "b", LabelledOnly: true})
	eventually := func(what string, firstForeign, secondForeign bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.After(30 * time.Second); ; {
			f, ok := first.Lookup(namespace, "phones")
			s, too := second.Lookup(namespace, "phones")
			if ok && too && f.Foreign == firstForeign && s.Foreign == secondForeign {
				return
			}
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%s: the first has %+v, the second %+v", what, f, s)
			}
		}
	}
	eventually("one that names none is the default installation's", false, true)
	before := client.MergeFrom(phones.DeepCopy())
	phones.Labels = map[string]string{v1alpha1.InstallationLabel: "b"}
	if err := api.Patch(t.Context(), phones, before); err != nil {
		t.Fatal(err)
	}
	eventually("one that names the second is its", true, false)
	if p, _ := first.Lookup(namespace, "phones"); !strings.Contains(p.Installation, "b") {
		t.Errorf("it is not known whose it is: %+v", p)
	}
}
