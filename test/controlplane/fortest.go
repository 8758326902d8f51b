package controlplane

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
)

// shared starts the one control plane of a test binary, with Rollcall's CRDs. It
// ends with the process, and takes its directory along.
var shared = sync.OnceValues(func() (*ControlPlane, error) {
	root, err := assets.Root()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*DefaultStartTimeout)
	defer cancel()
	cp, err := Start(ctx, Config{})
	if err != nil {
		return nil, err
	}
	return cp, cp.InstallCRDs(ctx, filepath.Join(root, "config", "crd", "bases"))
})

// ForTest returns the control plane that the tests of one binary share, with
// Rollcall's CRDs installed. The test fails when there are no assets, and is
// skipped under -short only. A test that pauses or kills a part of it has to
// start its own; one that looks for leaked goroutines calls this first, and then
// takes goleak.IgnoreCurrent.
func ForTest(t *testing.T) *ControlPlane {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a kube-apiserver, and -short asks for none")
	}
	cp, err := shared()
	if err != nil {
		t.Fatalf("no control plane: %v", err)
	}
	return cp
}

// Namespace makes a namespace for one test, named after prefix. It is never
// removed: that takes a controller manager.
func (cp *ControlPlane) Namespace(t *testing.T, prefix string) string {
	t.Helper()
	client, err := dynamic.NewForConfig(cp.admin)
	if err != nil {
		t.Fatal(err)
	}
	namespace := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"generateName": prefix + "-"},
	}}
	made, err := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).
		Create(t.Context(), namespace, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("making a namespace: %v", err)
	}
	return made.GetName()
}
