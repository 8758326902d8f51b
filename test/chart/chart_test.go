// Package chart tests charts/rollcall: what Helm renders is shown to a real API
// server, and what it refuses must say what to change.
package chart

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/rollcall-dev/rollcall/test/chart/helm"
)

// namespace is where helm.Template installs to.
const namespace = "rollcall-system"

var find = sync.OnceValues(func() (*helm.Helm, error) { return helm.Find(context.Background()) })

// theHelm is the one that all tests use.
func theHelm(t *testing.T) *helm.Helm {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Helm, which may have to be built, and -short asks for none")
	}
	h, err := find()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A rendering is what comes out of one set of values.
type rendering []*unstructured.Unstructured

// render renders the chart; args are Helm's.
func render(t *testing.T, args ...string) rendering {
	t.Helper()
	out, err := theHelm(t).Template(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, out)
}

func parse(t *testing.T, text string) rendering {
	t.Helper()
	var all rendering
	for _, document := range strings.Split("\n"+text, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), &object.Object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if len(object.Object) > 0 {
			all = append(all, object)
		}
	}
	if len(all) == 0 {
		t.Fatal("nothing is rendered")
	}
	return all
}

func (r rendering) find(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range r {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

func (r rendering) has(kind, name string) bool {
	for _, o := range r {
		if o.GetKind() == kind && o.GetName() == name {
			return true
		}
	}
	return false
}

// podTemplate is that of a workload, a Job or a CronJob; nil: it has none.
func podTemplate(t *testing.T, o *unstructured.Unstructured) *corev1.PodTemplateSpec {
	t.Helper()
	path := []string{"spec", "template"}
	if o.GetKind() == "CronJob" {
		path = []string{"spec", "jobTemplate", "spec", "template"}
	}
	raw, ok, err := unstructured.NestedMap(o.Object, path...)
	if o.GetKind() == "Pod" {
		raw, ok, err = o.Object, true, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return nil
	}
	text, err := yaml.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	template := &corev1.PodTemplateSpec{}
	if err := yaml.Unmarshal(text, template); err != nil {
		t.Fatal(err)
	}
	return template
}

// args are those of the first container of a workload's pods.
func (r rendering) args(t *testing.T, kind, name string) []string {
	t.Helper()
	return podTemplate(t, r.find(t, kind, name)).Spec.Containers[0].Args
}

// flag is the value of a flag among args.
func flag(t *testing.T, args []string, name string) string {
	t.Helper()
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return v
		}
	}
	t.Fatalf("there is no --%s in %q", name, args)
	return ""
}

// valuesFile is a file of values, where --set would want too many backslashes.
func valuesFile(t *testing.T, text string) string {
	t.Helper()
	name := fmt.Sprintf("%s/values.yaml", t.TempDir())
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
