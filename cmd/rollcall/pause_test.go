package main

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// sayHere carries out a command line and returns what it says. It leaves the
// process's own stdout and stderr alone, which etcd's goroutines read.
func sayHere(ctx context.Context, environ []string, args ...string) (string, error) {
	var out bytes.Buffer
	root := rootCommand(environ)
	root.SetArgs(args)
	root.SetOut(&out)
	err := root.ExecuteContext(ctx)
	return out.String(), err
}

func TestPauseAndResumeSayWhatWasTheCaseBefore(t *testing.T) {
	etcd := "http://" + strings.Join(storetest.Etcd(t), ",http://")
	controller := []string{"ROLLCALL_ETCD=" + etcd, "ROLLCALL_NAMESPACE=rollcall-system", "ROLLCALL_ID=controller-0"}
	times := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`)
	for _, step := range []struct {
		name    string
		environ []string
		args    []string
		says    string
	}{
		{"resume when not paused", nil, []string{"resume", "--etcd", etcd}, "Not paused: it was not paused before either.\n"},
		{
			"pause", nil, []string{"pause", "--etcd", etcd, "--why", "new switches", "--by", "ann"},
			"Paused, since TIME by ann: new switches. It was not paused before. No client is moved until \"rollcall resume\".\n",
		},
		{
			"pause again, by somebody else and with a controller's settings", controller, []string{"pause", "--by", "bob"},
			"Paused already, since TIME by ann: new switches: it stays so.\n",
		},
		{"resume", nil, []string{"resume", "--etcd", etcd}, "Resumed. It had been paused, since TIME by ann: new switches.\n"},
		{"resume again", controller, []string{"resume"}, "Not paused: it was not paused before either.\n"},
		{
			"pause without a reason", nil, []string{"pause", "--etcd", etcd, "--by", "bob"},
			"Paused, since TIME by bob. It was not paused before. No client is moved until \"rollcall resume\".\n",
		},
	} {
		said, err := sayHere(t.Context(), step.environ, step.args...)
		if got := times.ReplaceAllString(said, "TIME"); err != nil || got != step.says {
			t.Fatalf("%s: %q, %v; want %q", step.name, got, err, step.says)
		}
	}
}

func TestPauseGivesUpWhenEtcdIsAway(t *testing.T) {
	proxy := storetest.Start(t).Proxy()
	proxy.Cut()
	for _, command := range []string{"pause", "resume"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := sayHere(ctx, nil, command, "--etcd", "http://"+proxy.Endpoints()[0])
		cancel()
		if !errors.As(err, new(failure)) || !strings.Contains(err.Error(), "has not answered within") ||
			!strings.Contains(err.Error(), "nothing was changed: check --etcd") {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func TestPauseRefusesSettingsThatCannotWork(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		args       []string
	}{
		{"no etcd", "--etcd is needed", []string{"pause"}},
		{"no endpoint", "is not an endpoint", []string{"resume", "--etcd", "here"}},
		{"an argument", `"servers"`, []string{"pause", "servers"}},
	} {
		status, stderr := runHere(t, nil, tt.args...)
		if status != exitUsage || !strings.Contains(stderr, tt.says) {
			t.Errorf("%s: status %d, %q", tt.name, status, stderr)
		}
	}
}
