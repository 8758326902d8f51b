package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module   = "github.com/rollcall-dev/rollcall"
	maxLines = 500
)

// A file is one of the repository's own Go files, but for those of other modules.
type file struct {
	name      string // relative to the root, with slashes
	source    []byte
	syntax    *ast.File
	generated bool
}

func (f file) test() bool { return strings.HasSuffix(f.name, "_test.go") }

func (f file) imports(pkg string) bool {
	return slices.ContainsFunc(f.syntax.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+pkg+`"` })
}

const root = "../.."

// files are those that git knows or could add.
func files(t *testing.T) []file {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-co", "--exclude-standard", "*.go")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the repository's files: %v", err)
	}
	var all []file
	for _, name := range strings.Fields(string(out)) {
		if strings.HasPrefix(name, "hack/kube/") || strings.HasPrefix(name, "hack/tools/") {
			continue
		}
		source, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and git does not know it yet
		}
		if err != nil {
			t.Fatal(err)
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, file{name: name, source: source, syntax: syntax, generated: ast.IsGenerated(syntax)})
	}
	if len(all) == 0 {
		t.Fatal("there are no files")
	}
	return all
}

func TestNoFileIsLongerThan500Lines(t *testing.T) {
	for _, f := range files(t) {
		if lines := bytes.Count(f.source, []byte("\n")); lines > maxLines && !f.generated {
			t.Errorf("%s has %d lines: it is two files", f.name, lines)
		}
	}
}

// In a synctest bubble time is not real, and sleeping is how it passes.
func TestNoTestSleeps(t *testing.T) {
	for _, f := range files(t) {
		if !f.test() || !f.imports("time") || f.imports("testing/synctest") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s calls time.Sleep: wait for what must come to pass, or use testing/synctest", f.name)
				}
			}
			return true
		})
	}
}

func TestEveryPackageHasACommentAndANoun(t *testing.T) {
	commented := map[string]bool{} // by directory; absent: only tests or generated code
	for _, f := range files(t) {
		if f.test() || f.generated {
			continue
		}
		dir := path.Dir(f.name)
		commented[dir] = commented[dir] || f.syntax.Doc != nil
		if vague := regexp.MustCompile(`^(utils?|common|helpers?|types|misc)$`); vague.MatchString(f.syntax.Name.Name) {
			t.Errorf("%s: package %s says nothing of what it holds", f.name, f.syntax.Name.Name)
		}
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("%s has no package comment: say what it is for, and what it is not", dir)
		}
	}
}

// A layer is what some packages must not import, tests excepted, neither
// themselves nor through others of ours.
type layer struct {
	name      string
	of        []string // packages of ours, with those below them
	but       []string // exceptions to of, with those below them
	forbidden []string // with those below them
	allowed   []string // exceptions to forbidden
}

var inputOutput = []string{"os", "net", "syscall", "log", "k8s.io", "sigs.k8s.io", "go.etcd.io", "golang.org/x/sys", "golang.org/x/net", "github.com/hashicorp", "github.com/prometheus"}

// scenarios reads the scenario files of the pure packages, for their tests.
const scenarios = module + "/internal/verdict/scenario"

var layers = []layer{
	{
		name: "api imports nothing of ours", of: []string{module + "/api"},
		forbidden: []string{module}, allowed: []string{module + "/api"},
	},
	{
		name:      "verdict, plan and mqtt do no I/O",
		of:        []string{module + "/internal/verdict", module + "/internal/plan", module + "/internal/quarantine", module + "/internal/kernel", module + "/internal/mqtt"},
		but:       []string{scenarios},
		forbidden: inputOutput, allowed: []string{"net/netip", "net/url"},
	},
	{
		name: "verdict and plan know no chance", of: []string{module + "/internal/verdict", module + "/internal/plan"},
		forbidden: []string{"math/rand", "crypto/rand"},
	},
	{
		name: "nothing under internal knows the Kubernetes client", of: []string{module + "/internal"},
		forbidden: []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
	},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the packages: %v", err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

func TestLayers(t *testing.T) {
	all := packages(t)
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			for _, from := range all {
				if !within(from.ImportPath, l.of) || within(from.ImportPath, l.but) {
					continue
				}
				for _, p := range reachable(all, from) {
					for _, i := range p.Imports {
						if within(i, l.forbidden) && !within(i, l.allowed) {
							t.Errorf("%s imports %s (for %s)", p.ImportPath, i, from.ImportPath)
						}
					}
				}
			}
		})
	}
}

func TestOnlyTestsReadScenarios(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(p.Imports, scenarios) {
			t.Errorf("%s imports %s, which is for tests", p.ImportPath, scenarios)
		}
	}
}

func TestOnlyStoreKnowsEtcd(t *testing.T) {
	may := []string{module + "/internal/store", module + "/test"}
	for _, p := range packages(t) {
		if within(p.ImportPath, may) {
			continue
		}
		for _, i := range p.Imports {
			if within(i, []string{"go.etcd.io"}) {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}

// reachable is p and the packages of ours that it imports, one through another.
func reachable(all map[string]pkg, p pkg) []pkg {
	seen := map[string]bool{p.ImportPath: true}
	found := []pkg{p}
	for i := 0; i < len(found); i++ {
		for _, name := range found[i].Imports {
			if next, ours := all[name]; ours && !seen[name] {
				seen[name] = true
				found = append(found, next)
			}
		}
	}
	return found
}

func within(name string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return name == r || strings.HasPrefix(name, r+"/") })
}
