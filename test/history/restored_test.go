package history

import "testing"

// A client has gone from one server to another since the backup. When that is
// restored, the first server finds a record of its own about a client that it
// does not have; the second one, which has it, can say so only at the next beat.
func TestARestoredEtcdTakesNobodyOffline(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and stops etcd several times")
	}
	const rare = 10 // seconds between two beats, so that the lease is 15.5 s
	w := newWorld(t)
	come := func(client string, l *life) *conn {
		t.Helper()
		c, err := dial(w.record, l, client, rare)
		if err != nil {
			t.Fatalf("%s: %v", client, err)
		}
		t.Cleanup(func() { c.Close() })
		w.eventually(client+" is recorded where it is", func() bool {
			_ = c.beat(client) // after a restore, the first proves nothing
			return w.isAt(client, l)
		})
		return c
	}
	first, second := w.life(0), w.life(1)
	come("wanderer", first).Close()
	saved := w.save()
	wanderer := come("wanderer", second)
	w.restore(saved, func() { w.etcd.Restore(saved) })
	// What the first has to say about the wanderer it says before this.
	come("stranger", first)
	if err := wanderer.beat("wanderer"); err != nil {
		t.Fatalf("the wanderer's server does not answer: %v", err)
	}
	w.eventually("the wanderer is recorded where it is", func() bool {
		_ = wanderer.beat("wanderer")
		return w.isAt("wanderer", second)
	})
	w.unwatch()
	for _, p := range w.record.puts {
		if p.Offline {
			t.Errorf("%s was declared offline by server %d", p.Client, p.Server)
		}
	}
}
