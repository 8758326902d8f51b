package v1alpha1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestSamplesAreAccepted(t *testing.T) {
	a := newAPI(t)
	for _, pattern := range []string{"../../config/samples/*.yaml", "../../docs/examples/services/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no samples in %s: %v", pattern, err)
		}
		for _, file := range files {
			t.Run(filepath.Base(file), func(t *testing.T) {
				text, err := os.ReadFile(file)
				check(t, err)
				for document := range strings.SplitSeq(string(text), "\n---\n") {
					o := &unstructured.Unstructured{Object: fromYAML(t, document)}
					o.SetNamespace(a.namespace) // the one it names isn't there
					check(t, a.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")))
				}
			})
		}
	}
}
