package adoption

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Object is one of Kubernetes's, in the namespace of the Service.
type Object struct {
	Kind schema.GroupVersionKind
	Name string
	// UID tells it from a later one of the same name.
	UID types.UID
}

// String is how kubectl calls it.
func (o Object) String() string {
	kind := strings.ToLower(o.Kind.Kind)
	if o.Kind.Group != "" {
		kind += "." + o.Kind.Group
	}
	return kind + "/" + o.Name
}

// rollout is the command that waits for a workload.
func (o Object) rollout() string {
	return "kubectl rollout status " + strings.ToLower(o.Kind.Kind) + "/" + o.Name
}

// Change is what is done to one object, in one request.
type Change struct {
	Object Object
	Edits  []Edit
}

// Edit changes one field from what it was when it was planned. Values are strings
// or booleans; nil: the field is not there.
type Edit struct {
	Path     []string
	From, To any
}

// Patch is a JSON merge patch that makes the change in the object as it is now,
// and fails where that has changed since; nil: it is made already. A field that
// is neither as it was nor as it should be is an error.
func (c Change) Patch(now *unstructured.Unstructured) ([]byte, error) {
	if now.GetUID() != c.Object.UID {
		return nil, fmt.Errorf("%s has been made anew meanwhile", c.Object)
	}
	patch := map[string]any{}
	for _, e := range c.Edits {
		is, found, err := unstructured.NestedFieldNoCopy(now.Object, e.Path...)
		if err != nil {
			return nil, fmt.Errorf("reading %s of %s: %w", e.name(), c.Object, err)
		}
		if !found {
			is = nil
		}
		switch is {
		case e.To:
			continue
		case e.From:
		default:
			return nil, fmt.Errorf("%s of %s has changed meanwhile, to %v", e.name(), c.Object, is)
		}
		if err := set(patch, e.To, e.Path...); err != nil {
			return nil, err
		}
	}
	if len(patch) == 0 {
		return nil, nil
	}
	if err := set(patch, now.GetResourceVersion(), "metadata", "resourceVersion"); err != nil {
		return nil, err
	}
	return json.Marshal(patch)
}

// set puts a value, which may be nil, where a path leads to.
func set(into map[string]any, value any, path ...string) error {
	for _, name := range path[:len(path)-1] {
		next, ok := into[name].(map[string]any)
		if !ok {
			if into[name] != nil {
				return fmt.Errorf("%s is both a value and an object", strings.Join(path, "."))
			}
			next = map[string]any{}
			into[name] = next
		}
		into = next
	}
	into[path[len(path)-1]] = value
	return nil
}

// name is the field as a person would write it.
func (e Edit) name() string {
	var b strings.Builder
	for i, s := range e.Path {
		switch {
		case strings.ContainsAny(s, "./"):
			fmt.Fprintf(&b, "[%q]", s)
		case i > 0:
			b.WriteString("." + s)
		default:
			b.WriteString(s)
		}
	}
	return b.String()
}

// Diff is what a person reads before agreeing to a plan.
func (p Plan) Diff() string {
	var b strings.Builder
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, s.Title)
		for _, c := range s.Changes {
			fmt.Fprintf(&b, "   %s\n", c.Object)
			for _, e := range c.Edits {
				if e.From != nil {
					fmt.Fprintf(&b, "     - %s: %s\n", e.name(), quoted(e.From))
				}
				if e.To != nil {
					fmt.Fprintf(&b, "     + %s: %s\n", e.name(), quoted(e.To))
				}
			}
		}
	}
	return b.String()
}

func quoted(v any) string {
	if s, ok := v.(string); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprint(v)
}

// Await is what must be seen of changed objects before the next step.
type Await int

// What is awaited: nothing; that the object's controller has seen the change;
// that all pods are of the new template, and ready; or, for what no status tells,
// that some seconds have passed, within which Kubernetes sees a change.
const (
	Nothing Await = iota
	Observed
	RolledOut
	Spread
)

// Met tells whether an object shows what is awaited of it, after a change that
// made it of this generation.
func (a Await) Met(now *unstructured.Unstructured, generation int64) bool {
	if a == Nothing || a == Spread {
		return true
	}
	number := func(path ...string) int64 {
		n, _, _ := unstructured.NestedInt64(now.Object, path...)
		return n
	}
	word := func(path ...string) string {
		s, _, _ := unstructured.NestedString(now.Object, path...)
		return s
	}
	switch {
	case number("status", "observedGeneration") < generation:
		return false
	case a == Observed:
		return true
	case now.GetKind() == "StatefulSet":
		return word("status", "currentRevision") == word("status", "updateRevision") && number("status", "readyReplicas") == number("spec", "replicas")
	default:
		want := number("status", "desiredNumberScheduled")
		return number("status", "updatedNumberScheduled") == want && number("status", "numberAvailable") == want
	}
}
