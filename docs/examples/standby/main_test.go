package main

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/clienttest"
)

const beMember = "ROLLCALL_TEST_MEMBER"

func TestMain(m *testing.M) {
	if os.Getenv(beMember) != "" {
		main()
		return
	}
	clienttest.Main()
	m.Run()
}

// start runs a member as a process, until the test ends.
func start(t *testing.T, s *clienttest.Site, id, other, ledger string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-servers", strings.Join(s.Addresses(), ","), "-presence", clienttest.Presence,
		"-id", id, "-other", other, "-ledger", ledger)
	cmd.Env = append(os.Environ(), beMember+"=1")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process
}

func TestAStoppedPrimaryThatWakesUpWritesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	s := clienttest.Start(t, clienttest.Config{Servers: 2, Grace: 3 * time.Second})
	var l ledger
	web := httptest.NewServer(&l)
	defer web.Close()
	writes := func(holder string, since int) func() bool {
		return func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			n := 0
			for _, e := range l.entries[since:] {
				if e.holder == holder {
					n++
				}
			}
			return n >= 5
		}
	}
	length := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.entries)
	}
	first := start(t, s, "a", "b", web.URL)
	clienttest.Eventually(t, "a is the primary", writes("a", 0))
	second := start(t, s, "b", "a", web.URL)

	begun := time.Now()
	_ = first.Signal(syscall.SIGSTOP)
	clienttest.Eventually(t, "b has taken over", writes("b", 0))
	t.Logf("b wrote %v after a was stopped, with a lease of 1.5 × 1 s + 3 s", time.Since(begun).Round(time.Millisecond))
	taken := length()
	_ = first.Signal(syscall.SIGCONT)
	clienttest.Eventually(t, "b goes on", writes("b", taken))

	begun, taken = time.Now(), length()
	_ = second.Signal(syscall.SIGSTOP)
	clienttest.Eventually(t, "a has taken over", writes("a", taken))
	t.Logf("a wrote %v after b was stopped", time.Since(begun).Round(time.Millisecond))

	l.mu.Lock()
	defer l.mu.Unlock()
	token, turns := int64(0), []string{}
	for _, e := range l.entries {
		if e.token < token {
			t.Errorf("written with the token %d after %d", e.token, token)
		}
		token = e.token
		if len(turns) == 0 || turns[len(turns)-1] != e.holder {
			turns = append(turns, e.holder)
		}
	}
	if got := strings.Join(turns, " "); got != "a b a" {
		t.Errorf("turns %q, want a b a", got)
	}
	t.Logf("refused: %v", l.refused)
}

func TestTheLedgerRefusesWhoWasOvertaken(t *testing.T) {
	var l ledger
	for _, w := range []struct {
		holder string
		token  int64
		want   bool
	}{{"a", 5, true}, {"a", 5, true}, {"b", 5, false}, {"b", 7, true}, {"a", 5, false}, {"a", 6, false}, {"b", 7, true}, {"a", 9, true}} {
		if got := l.write(w.holder, w.token, ""); got != w.want {
			t.Errorf("%+v: %v", w, got)
		}
	}
}

func TestWhoBecomesThePrimary(t *testing.T) {
	r := role{other: "b"}
	for i, step := range []struct {
		change client.Change
		token  int64
	}{
		{client.Change{Client: "a", Online: true, Revision: 3}, 0}, // not all has been told
		{client.Change{Client: "b", Online: true, Revision: 4}, 0},
		{client.Change{Revision: 6}, 0},
		{client.Change{Client: "b", Revision: 9}, 9},
		{client.Change{Client: "b", Online: true, Revision: 12}, 9}, // it is the standby
	} {
		if r.see(step.change); r.token != step.token {
			t.Errorf("step %d: token %d, want %d", i, r.token, step.token)
		}
	}
	r.stepDown()
	r.see(client.Change{Client: "b", Revision: 15})
	if r.token != 0 {
		t.Error("the primary again, before it was told anew who is here")
	}
	r.see(client.Change{Revision: 15})
	if r.token != 15 {
		t.Errorf("token %d, want 15", r.token)
	}
}
