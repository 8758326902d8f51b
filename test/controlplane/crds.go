package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// InstallCRDs applies the CustomResourceDefinitions in dir's *.yaml files, and
// waits until the API server serves them.
func (cp *ControlPlane) InstallCRDs(ctx context.Context, dir string) error {
	definitions, err := readCRDs(dir)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(cp.admin)
	if err != nil {
		return fmt.Errorf("making a client for the API server: %w", err)
	}
	for _, d := range definitions {
		if _, err := client.Resource(crds).Apply(ctx, d.GetName(), d, metav1.ApplyOptions{FieldManager: "rollcall-controlplane", Force: true}); err != nil {
			return fmt.Errorf("applying %s: %w", d.GetName(), err)
		}
	}
	for _, d := range definitions {
		if err := served(ctx, client, d); err != nil {
			return fmt.Errorf("waiting for %s: %w", d.GetName(), err)
		}
	}
	return nil
}

func readCRDs(dir string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("looking for CRDs: %w", err)
	}
	var definitions []*unstructured.Unstructured
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading CRDs: %w", err)
		}
		for documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096); ; {
			d := &unstructured.Unstructured{}
			if err := documents.Decode(&d.Object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("reading %s: %w", file, err)
			}
			if d.GetKind() == "CustomResourceDefinition" {
				definitions = append(definitions, d)
			}
		}
	}
	if len(definitions) == 0 {
		return nil, fmt.Errorf("there is no CustomResourceDefinition in %s", dir)
	}
	return definitions, nil
}

// served waits until the definition is Established and its objects can be listed,
// which is a moment later.
func served(ctx context.Context, client dynamic.Interface, definition *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		current, err := client.Resource(crds).Get(ctx, definition.GetName(), metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if !established(current) {
			return false, nil
		}
		for _, v := range versions {
			if !listable(ctx, client, group, plural, v) {
				return false, nil
			}
		}
		return true, nil
	})
}

func listable(ctx context.Context, client dynamic.Interface, group, plural string, version any) bool {
	v, _ := version.(map[string]any)
	if served, _, _ := unstructured.NestedBool(v, "served"); !served {
		return true // nobody can, and nobody should wait for it
	}
	name, _, _ := unstructured.NestedString(v, "name")
	_, err := client.Resource(schema.GroupVersionResource{Group: group, Version: name, Resource: plural}).
		List(ctx, metav1.ListOptions{Limit: 1})
	return err == nil
}

func established(definition *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(definition.Object, "status", "conditions")
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		if condition["type"] == "Established" && condition["status"] == "True" {
			return true
		}
	}
	return false
}
