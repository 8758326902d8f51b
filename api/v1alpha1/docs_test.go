package v1alpha1_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// row returns the row of a table in docs/spec that begins with `name`.
func row(text, name string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| `"+name+"`") {
			return line
		}
	}
	return ""
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	return string(text)
}

// schemaOf returns the schema of a kind's spec, as the API server has it.
func schemaOf(t *testing.T, file string) map[string]any {
	t.Helper()
	crd := fromYAML(t, strings.TrimPrefix(readText(t, "../../config/crd/bases/"+file), "---\n"))
	version := crd["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)
	schema := version["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)
	return schema["properties"].(map[string]any)["spec"].(map[string]any)
}

// fields visits every field of ours under a schema, with its path.
func fields(schema map[string]any, path string, visit func(path string, field map[string]any)) {
	if items, ok := schema["items"].(map[string]any); ok {
		fields(items, path+"[]", visit)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, f := range properties {
		field := f.(map[string]any)
		at := strings.TrimPrefix(path+"."+name, ".")
		visit(at, field)
		if field["x-kubernetes-map-type"] != "atomic" { // a label selector, Kubernetes's own
			fields(field, at, visit)
		}
	}
}

func TestDocsHaveARowWithTheDefaultOfEveryField(t *testing.T) {
	for _, kind := range []struct{ crd, doc string }{
		{"rollcall.dev_presences.yaml", "presence.md"},
		{"rollcall.dev_failovers.yaml", "failover.md"},
	} {
		text := readText(t, "../../docs/spec/"+kind.doc)
		fields(schemaOf(t, kind.crd), "", func(path string, field map[string]any) {
			value, defaulted := field["default"]
			line := row(text, path)
			if properties, _ := field["properties"].(map[string]any); line == "" && len(properties) > 0 {
				return // its own fields have rows
			}
			if line == "" {
				t.Errorf("docs/spec/%s has no row for %s", kind.doc, path)
				return
			}
			if _, object := value.(map[string]any); !defaulted || object {
				return
			}
			plain, isString := value.(string)
			if !isString {
				encoded, err := json.Marshal(value)
				check(t, err)
				plain = string(encoded)
			}
			if !strings.Contains(line, "| `"+plain+"` |") {
				t.Errorf("docs/spec/%s: the default of %s is %s, and its row says otherwise:\n%s", kind.doc, path, plain, line)
			}
		})
	}
}

func TestDocsHaveARowForEveryConditionAndReason(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "conditions.go", nil, parser.ParseComments)
	check(t, err)
	text := readText(t, "../../docs/spec/presence.md") + readText(t, "../../docs/spec/failover.md")
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		name := spec.Names[0].Name
		if !strings.HasPrefix(name, "Condition") && !strings.HasPrefix(name, "Reason") {
			return true
		}
		found++
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		check(t, err)
		if row(text, value) == "" {
			t.Errorf("docs/spec has no row for %s, %q", name, value)
		}
		if doc := spec.Doc.Text(); !strings.HasPrefix(doc, name+" ") {
			t.Errorf("%s has no comment that begins with its name", name)
		}
		return true
	})
	if found == 0 {
		t.Fatal("conditions.go holds no conditions")
	}
}
