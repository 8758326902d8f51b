package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/rollcall-dev/rollcall/agent/gossip"
)

func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func TestTheStepsOfARotation(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		was   rotation
		after time.Duration
		asked bool
		step  string
		keys  gossip.Keys
	}{
		{"there is none", rotation{}, 0, false, keyMade, gossip.Keys{key(9)}},
		{"it is young", rotation{gossip.Keys{key(1)}, keyMade, at}, gossipAge - 1, false, keyMade, gossip.Keys{key(1)}},
		{"it is old", rotation{gossip.Keys{key(1)}, keyMade, at}, gossipAge, false, keyAdded, gossip.Keys{key(1), key(9)}},
		{"a person asks", rotation{gossip.Keys{key(1)}, keyMade, at}, time.Second, true, keyAdded, gossip.Keys{key(1), key(9)}},
		{"not all may have it", rotation{gossip.Keys{key(1), key(2)}, keyAdded, at}, gossipSettle - 1, true, keyAdded, gossip.Keys{key(1), key(2)}},
		{"all have it", rotation{gossip.Keys{key(1), key(2)}, keyAdded, at}, gossipSettle, false, keyUsed, gossip.Keys{key(2), key(1)}},
		{"some may use the former", rotation{gossip.Keys{key(2), key(1)}, keyUsed, at}, gossipSettle - 1, false, keyUsed, gossip.Keys{key(2), key(1)}},
		{"nobody uses the former", rotation{gossip.Keys{key(2), key(1)}, keyUsed, at}, gossipSettle, false, keyMade, gossip.Keys{key(2)}},
		{"from before there were steps", rotation{keys: gossip.Keys{key(1)}}, 0, false, keyMade, gossip.Keys{key(1)}},
		{"a person has meddled", rotation{gossip.Keys{key(1)}, keyUsed, at}, gossipSettle, false, keyMade, gossip.Keys{key(1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := c.was.next(at.Add(c.after), c.asked, key(9))
			if got.step != c.step || got.keys.Format() != c.keys.Format() {
				t.Errorf("step %s with %d keys", got.step, len(got.keys))
			}
		})
	}
}

// A whole exchange, as the CronJob makes it: whoever agrees with one step agrees
// with the next.
func TestARotationFromOneKeyToTheNext(t *testing.T) {
	api := fake.NewClientset().CoreV1().Secrets("system")
	m := mint{api: api, prefix: "rollcall", log: slog.New(slog.DiscardHandler), now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	read := func() (*corev1.Secret, gossip.Keys) {
		t.Helper()
		s, err := api.Get(t.Context(), "rollcall"+secretGossip, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := gossip.ParseKeys(string(s.Data[gossipKey]))
		if err != nil {
			t.Fatal(err)
		}
		return s, keys
	}
	run := func() gossip.Keys {
		t.Helper()
		if err := m.gossipKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, keys := read()
		return keys
	}
	first := run()
	s, _ := read()
	s.Annotations[rotateAnnotation] = "please"
	if _, err := api.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := first
	for range 3 {
		m.now = m.now.Add(gossipSettle)
		now := run()
		if bytes.Equal(nil, now[0]) || !contains(before, now[0]) || !contains(now, before[0]) {
			t.Fatalf("who has the former step's keys does not understand this one's, or the other way round")
		}
		if again := run(); again.Format() != now.Format() {
			t.Fatal("a second run at once goes on")
		}
		before = now
	}
	if len(before) != 1 || bytes.Equal(before[0], first[0]) {
		t.Errorf("in the end there are %d keys, the first of them the old: %v", len(before), bytes.Equal(before[0], first[0]))
	}
	m.now = m.now.Add(time.Hour)
	if run().Format() != before.Format() {
		t.Error("one request makes two exchanges")
	}
}

func contains(keys gossip.Keys, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}

func TestAgentsFollowTheFileOfKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(gossip.Keys{key(1)}.Format())
	got := make(chan gossip.Keys, 100)
	last := ""
	set := func(k gossip.Keys) (bool, error) {
		if k.Format() == last {
			return false, nil
		}
		last = k.Format()
		got <- k
		return true, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- followGossipKeys(ctx, file, time.Millisecond, set, slog.New(slog.DiscardHandler)) }()
	if k := <-got; len(k) != 1 {
		t.Errorf("%d keys", len(k))
	}
	write("rubbish")
	write(gossip.Keys{key(2), key(1)}.Format())
	if k := <-got; len(k) != 2 || k[0][0] != 2 {
		t.Errorf("%v", k)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
