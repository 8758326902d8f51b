package v1alpha1_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The messages of Failover's rules, as its markers have them.
const (
	msgImmutable    = "the spec of a Failover is immutable: delete it (which cancels it) and create another"
	msgSelfTarget   = "spec.targets must not hold spec.server, whose clients are moved away: remove it from the targets"
	msgWeights      = "spec.targets must hold a server with a weight above 0, or be left out: then the controller chooses"
	msgPresence     = "spec.presence must be the name of a servers Presence in this namespace"
	msgServer       = "spec.server must be the name of a pod in this namespace, such as server-2"
	msgTargetServer = "targets.server must be the name of a pod in this namespace, such as server-1"
)

var failoverRules = []struct {
	name string
	spec string
	want []refusal // none: accepted
}{
	{"a Presence and a server are enough", `{presence: servers, server: server-2}`, nil},
	{"names of pods may hold dots", `{presence: servers.im, server: server.im-2}`, nil},
	{"a Failover of nobody is refused", `{presence: servers, server: ""}`, []refusal{{"spec.server", msgServer}}},
	{"a Failover of no Presence is refused", `{presence: "", server: server-2}`, []refusal{{"spec.presence", msgPresence}}},
	{"a slash in a server's name is refused", `{presence: servers, server: im/server-2}`, []refusal{{"spec.server", msgServer}}},
	{"a slash in a Presence's name is refused", `{presence: im/servers, server: server-2}`, []refusal{{"spec.presence", msgPresence}}},
	{"a slash in a target's name is refused", `{presence: servers, server: server-2, targets: [{server: a/b, weight: 1}]}`, []refusal{{"spec.targets[0].server", msgTargetServer}}},
	{"a reason that doesn't exist is refused", `{presence: servers, server: server-2, reason: Bored}`, []refusal{{"spec.reason", `supported values: "Overloaded", "Dead", "Returned", "Rebalance", "Drain"`}}},
	{"a count of no client is refused", `{presence: servers, server: server-2, count: 0}`, []refusal{{"spec.count", "should be greater than or equal to 1"}}},
	{"a negative number of clients is refused", `{presence: servers, server: server-2, clients: -1}`, []refusal{{"spec.clients", "should be greater than or equal to 0"}}},
	{"a negative baseline is refused", `{presence: servers, server: server-2, takenOver: -1}`, []refusal{{"spec.takenOver", "should be greater than or equal to 0"}}},
	{"targets have weights", `{presence: servers, server: server-2, targets: [{server: server-0, weight: 1}, {server: server-1, weight: 0}]}`, nil},
	{"no targets at all leave the choice to the controller", `{presence: servers, server: server-2, targets: []}`, nil},
	{"targets of no weight are refused", `{presence: servers, server: server-2, targets: [{server: server-0, weight: 0}]}`, []refusal{{"spec.targets", msgWeights}}},
	{"a server that receives its own clients is refused", `{presence: servers, server: server-2, targets: [{server: server-2, weight: 1}]}`, []refusal{{"spec.targets", msgSelfTarget}}},
	{"a negative weight is refused", `{presence: servers, server: server-2, targets: [{server: server-0, weight: -1}, {server: server-1, weight: 1}]}`, []refusal{{"spec.targets[0].weight", "should be greater than or equal to 0"}}},
	{"a weight over a million is refused", `{presence: servers, server: server-2, targets: [{server: server-0, weight: 1000001}]}`, []refusal{{"spec.targets[0].weight", "should be less than or equal to 1000000"}}},
}

func TestFailoverRules(t *testing.T) {
	a := newAPI(t)
	for _, tt := range failoverRules {
		t.Run(tt.name, func(t *testing.T) {
			o := a.object(t, "Failover", "", tt.spec)
			checkRefused(t, a.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")), tt.want...)
		})
	}
}

func TestFailoverNamesAreBounded(t *testing.T) {
	a := newAPI(t)
	for name, tt := range map[string]struct {
		spec  string
		field string
		max   string
	}{
		"a Presence has at most 63 characters": {`{presence: ` + strings.Repeat("a", 64) + `, server: s}`, "spec.presence", "63"},
		"a server has at most 253 characters":  {`{presence: p, server: ` + strings.Repeat("a", 254) + `}`, "spec.server", "253"},
		"evidence has at most 1024 characters": {`{presence: p, server: s, evidence: ` + strings.Repeat("a", 1025) + `}`, "spec.evidence", "1024"},
	} {
		t.Run(name, func(t *testing.T) {
			err := a.Create(t.Context(), a.object(t, "Failover", "", tt.spec), client.DryRunAll)
			checkRefused(t, err, refusal{tt.field, "may not be more than " + tt.max + " bytes"})
		})
	}
}

var failoverChanges = []struct {
	name     string
	from, to string
	want     []refusal
}{
	{"the same spec may be written again", `{presence: servers, server: server-2}`, `{presence: servers, server: server-2, reason: Drain}`, nil},
	{"another server is refused", `{presence: servers, server: server-2}`, `{presence: servers, server: server-1}`, []refusal{{"spec", msgImmutable}}},
	{"a count that was absent is refused", `{presence: servers, server: server-2}`, `{presence: servers, server: server-2, count: 5}`, []refusal{{"spec", msgImmutable}}},
	{"other targets are refused", `{presence: servers, server: server-2, targets: [{server: server-0, weight: 1}]}`, `{presence: servers, server: server-2, targets: [{server: server-0, weight: 2}]}`, []refusal{{"spec", msgImmutable}}},
	{"targets that are taken away are refused", `{presence: servers, server: server-2, targets: [{server: server-0, weight: 1}]}`, `{presence: servers, server: server-2}`, []refusal{{"spec", msgImmutable}}},
	{"another time is refused", `{presence: servers, server: server-2, detectedAt: "2026-01-01T00:00:00.000001Z"}`, `{presence: servers, server: server-2, detectedAt: "2026-01-01T00:00:00.000002Z"}`, []refusal{{"spec", msgImmutable}}},
}

func TestFailoverSpecIsImmutable(t *testing.T) {
	a := newAPI(t)
	for _, tt := range failoverChanges {
		t.Run(tt.name, func(t *testing.T) {
			o := a.object(t, "Failover", "", tt.from)
			checkRefused(t, a.Create(t.Context(), o))
			o.Object["spec"] = fromYAML(t, tt.to)
			checkRefused(t, a.Update(t.Context(), o), tt.want...)
		})
	}
}

// A rule that no test sees refuse anything may refuse nothing at all.
func TestEveryRuleIsSeenToRefuse(t *testing.T) {
	seen := map[string]bool{msgName: true}
	see := func(refusals []refusal) {
		for _, r := range refusals {
			seen[r.message] = true
		}
	}
	for _, tt := range presenceRules {
		see(tt.want)
	}
	for _, tt := range presenceChanges {
		see(tt.want)
	}
	for _, tt := range probeRules {
		see(tt.want)
	}
	for _, tt := range failoverRules {
		see(tt.want)
	}
	for _, tt := range failoverChanges {
		see(tt.want)
	}
	messages := ruleMessages(t)
	if len(messages) == 0 {
		t.Fatal("the CRDs hold no rules")
	}
	for _, m := range messages {
		if !seen[m] {
			t.Errorf("no test is refused with %q", m)
		}
	}
}

// ruleMessages are the messages of all CEL rules in config/crd/bases.
func ruleMessages(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../config/crd/bases/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		walk(fromYAML(t, strings.TrimPrefix(string(text), "---\n")), func(node map[string]any) {
			rules, _ := node["x-kubernetes-validations"].([]any)
			for _, r := range rules {
				message, _ := r.(map[string]any)["message"].(string)
				messages = append(messages, message)
			}
		})
	}
	slices.Sort(messages)
	return slices.Compact(messages)
}

// walk visits every object in a tree of YAML.
func walk(node any, visit func(map[string]any)) {
	switch node := node.(type) {
	case map[string]any:
		visit(node)
		for _, child := range node {
			walk(child, visit)
		}
	case []any:
		for _, child := range node {
			walk(child, visit)
		}
	}
}
