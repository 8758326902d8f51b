package plan_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// TestThresholdsAreDocumented compares docs/spec/thresholds.md with every
// exported constant of both packages that is a number or a time.
func TestThresholdsAreDocumented(t *testing.T) {
	values := map[string]any{
		"verdict.HungAfter": verdict.HungAfter, "verdict.DefaultAnswerTime": verdict.DefaultAnswerTime,
		"verdict.DefaultRecovery": verdict.DefaultRecovery, "verdict.DefaultObservers": verdict.DefaultObservers,
		"verdict.NodeRecovery": verdict.NodeRecovery, "verdict.StoreAwayLimit": verdict.StoreAwayLimit,
		"verdict.AuthorWindow": verdict.AuthorWindow, "verdict.LostShare": verdict.LostShare, "verdict.ThawAfter": verdict.ThawAfter,
		"verdict.LeftLateMin": verdict.LeftLateMin, "verdict.LeftLateShare": verdict.LeftLateShare,
		"verdict.FlapPenalty": verdict.FlapPenalty, "verdict.FlapSuppress": verdict.FlapSuppress, "verdict.FlapReuse": verdict.FlapReuse,
		"verdict.FlapHalfLife": verdict.FlapHalfLife, "verdict.FlapCeiling": verdict.FlapCeiling,
		"verdict.CalibrateFor": verdict.CalibrateFor,
		"plan.DefaultRate":     plan.DefaultRate, "plan.FirstWave": plan.FirstWave, "plan.MaxOver": plan.MaxOver,
		"plan.MinHeadroom": plan.MinHeadroom, "plan.FillTime": plan.FillTime, "plan.RetryAfter": plan.RetryAfter,
		"plan.MaxTargets": plan.MaxTargets, "plan.ReturnAfter": plan.ReturnAfter, "plan.ReturnPace": plan.ReturnPace,
		"plan.ReturnMin": plan.ReturnMin, "plan.EvenOver": plan.EvenOver, "plan.RebalanceAfter": plan.RebalanceAfter, "plan.RebalanceLeast": plan.RebalanceLeast,
		"plan.RebalanceRate": plan.RebalanceRate, "plan.RebalanceEvery": plan.RebalanceEvery,
		"plan.PaceEvery": plan.PaceEvery, "plan.PaceStep": plan.PaceStep, "plan.PaceMost": plan.PaceMost, "plan.PaceChange": plan.PaceChange,
	}
	for _, dir := range []string{".", "../verdict"} {
		for _, name := range constants(t, dir) {
			if _, known := values[name]; !known {
				t.Errorf("%s is not among the values of this test, nor then in the document", name)
			}
		}
	}
	text, err := os.ReadFile("../../docs/spec/thresholds.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `((?:plan|verdict)\\.\\w+)` \\| (\\S+) \\| \\S").FindAllStringSubmatch(string(text), -1) {
		rows[row[1]] = row[2]
	}
	for name, value := range values {
		if rows[name] != fmt.Sprint(value) {
			t.Errorf("the document says that %s is %q, and it is %v", name, rows[name], value)
		}
	}
}

// constants are the exported ones of a package, "package.Name", that are neither
// text nor of a type of their own.
func constants(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				if lit, text := spec.Values[0].(*ast.BasicLit); spec.Type != nil || text && lit.Kind == token.STRING || !spec.Names[0].IsExported() {
					continue
				}
				names = append(names, f.Name.Name+"."+spec.Names[0].Name)
			}
		}
	}
	if len(names) == 0 {
		t.Fatalf("no constant in %s", dir)
	}
	return names
}
