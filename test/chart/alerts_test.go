package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// An alert leads to a page that says what to do, and every page has an alert.
func TestEveryAlertHasARunbook(t *testing.T) {
	const where = "https://example.com/runbooks"
	r := render(t, "--api-versions", "monitoring.coreos.com/v1", "--set", "monitoring.runbooks="+where)
	groups, _, err := unstructured.NestedSlice(r.find(t, "PrometheusRule", "rollcall-alerts").Object, "spec", "groups")
	if err != nil {
		t.Fatal(err)
	}
	alerts := map[string]bool{}
	for _, g := range groups {
		rules, _, _ := unstructured.NestedSlice(g.(map[string]any), "rules")
		for _, rule := range rules {
			name, _, _ := unstructured.NestedString(rule.(map[string]any), "alert")
			url, _, _ := unstructured.NestedString(rule.(map[string]any), "annotations", "runbook_url")
			if want := where + "/" + name + ".md"; url != want {
				t.Errorf("%s has its runbook at %q, want %q", name, url, want)
			}
			if _, err := os.Stat("../../docs/runbooks/" + name + ".md"); err != nil {
				t.Error(err)
			}
			alerts[name] = true
		}
	}
	pages, err := filepath.Glob("../../docs/runbooks/Rollcall*.md")
	if err != nil || len(pages) == 0 || len(alerts) == 0 {
		t.Fatalf("%d pages, %d alerts (%v)", len(pages), len(alerts), err)
	}
	for _, p := range pages {
		if name := strings.TrimSuffix(filepath.Base(p), ".md"); !alerts[name] {
			t.Errorf("%s: there is no such alert", p)
		}
	}
}
