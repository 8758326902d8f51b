package v1alpha1_test

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestSamplesAreAccepted(t *testing.T) {
	a := newAPI(t)
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			check(t, err)
			o := &unstructured.Unstructured{Object: fromYAML(t, string(text))}
			o.SetNamespace(a.namespace) // the one it names isn't there
			check(t, a.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")))
		})
	}
}
