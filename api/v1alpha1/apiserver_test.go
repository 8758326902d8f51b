package v1alpha1_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// api is a real API server with the CRDs of config/crd/bases, and a namespace
// in it that one test has to itself.
type api struct {
	client.Client
	plane     *controlplane.ControlPlane
	namespace string
}

func newAPI(t *testing.T) api {
	t.Helper()
	plane := controlplane.ForTest(t)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(plane.AdminConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return api{Client: c, plane: plane, namespace: plane.Namespace(t, "api")}
}

// object makes a Presence or Failover of a spec in YAML, as a person writes it.
// Without a name the API server chooses one.
func (a api) object(t *testing.T, kind, name, spec string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"spec": fromYAML(t, spec)}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetNamespace(a.namespace)
	o.SetName(name)
	o.SetGenerateName("any-")
	return o
}

func fromYAML(t *testing.T, text string) map[string]any {
	t.Helper()
	o := map[string]any{}
	if err := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096).Decode(&o); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return o
}

// refusal is one reason for which the API server refuses an object. The field of
// the object itself is called root.
type refusal struct{ field, message string }

const (
	root = "<nil>"
	// unchecked is added by the API server to what is wrong already.
	unchecked = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
)

// checkRefused fails unless err refuses the object for exactly these reasons;
// for none of them, unless there is no error.
func checkRefused(t *testing.T, err error, want ...refusal) {
	t.Helper()
	if len(want) == 0 {
		if err != nil {
			t.Errorf("refused, and should be accepted: %v", err)
		}
		return
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Reason != metav1.StatusReasonInvalid {
		t.Fatalf("got %v, want it refused as invalid: %v", err, want)
	}
	causes := slices.DeleteFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool {
		return strings.HasSuffix(c.Message, unchecked)
	})
	if len(causes) != len(want) {
		t.Errorf("refused for %d reasons, want %d: %v", len(causes), len(want), err)
	}
	for _, w := range want {
		if !holds(causes, w) {
			t.Errorf("not refused for %s: %q, but: %v", w.field, w.message, err)
		}
	}
}

func holds(causes []metav1.StatusCause, want refusal) bool {
	for _, c := range causes {
		if c.Field == want.field && strings.HasSuffix(c.Message, want.message) {
			return true
		}
	}
	return false
}
