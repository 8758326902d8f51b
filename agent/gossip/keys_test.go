package gossip

import (
	"bytes"
	"testing"
	"time"
)

func ring(names ...byte) Keys {
	var k Keys
	for _, n := range names {
		k = append(k, bytes.Repeat([]byte{n}, 32))
	}
	return k
}

// Three agents, of which at every step some lag behind the others, as kubelets
// bring a Secret to nodes when they like.
func TestKeysAreExchangedAndNobodyIsLost(t *testing.T) {
	agents := map[string]*agent{}
	var peers []Peer
	for _, name := range []string{"a", "b", "c"} {
		agents[name] = start(t, name, ring('1')[0])
		peers = append(peers, agents[name].peer())
	}
	for _, a := range agents {
		a.SetPeers(peers)
	}
	all := func() bool {
		for _, a := range agents {
			for name := range agents {
				if m, ok := a.Member(name); name != a.cfg.Node && (!ok || m.State != Alive) {
					return false
				}
			}
		}
		return true
	}
	eventually(t, "all know each other", all)
	since := time.Now()
	// traffic is that everybody answers everybody's pings, with the keys they have.
	traffic := func(step string) {
		t.Helper()
		for _, a := range agents {
			for name := range agents {
				if name == a.cfg.Node {
					continue
				}
				eventually(t, step+": "+a.cfg.Node+" is answered by "+name, func() bool {
					_, err := a.Ping(name, "")
					return err == nil
				})
			}
		}
		if !all() {
			t.Fatalf("%s: somebody is lost", step)
		}
	}
	for _, step := range []struct {
		name string
		keys Keys
	}{{"added", ring('1', '2')}, {"used", ring('2', '1')}, {"removed", ring('2')}} {
		for _, name := range []string{"b", "a", "c"} {
			if changed, err := agents[name].SetKeys(step.keys); err != nil || !changed {
				t.Fatalf("%s at %s: %v, changed %v", step.name, name, err, changed)
			}
			traffic(step.name + " at " + name)
			if changed, err := agents[name].SetKeys(step.keys); err != nil || changed {
				t.Fatalf("the same again: %v, changed %v", err, changed)
			}
		}
	}
	// Rounds of memberlist's own probes, after which a lost one would be known.
	eventually(t, "some rounds have passed", func() bool { return time.Since(since) > 10*DefaultInterval })
	for _, a := range agents {
		for name := range agents {
			if m, ok := a.Member(name); name != a.cfg.Node && (!ok || m.State != Alive || m.Since.After(since)) {
				t.Errorf("%s lost %s on the way: %+v", a.cfg.Node, name, m)
			}
		}
	}
	stranger := start(t, "d", ring('1')[0])
	if _, err := stranger.Ping("a", agents["a"].peer().Address); err == nil {
		t.Error("the old key still opens the door")
	}
}

func TestKeysInFiles(t *testing.T) {
	k, err := ParseKeys("\n" + ring('2', '1').Format() + "\n")
	if err != nil || len(k) != 2 || k[0][0] != '2' {
		t.Errorf("%v, %v", k, err)
	}
	for name, text := range map[string]string{"nothing": "\n", "no base64": "!", "too short": "AAAA", "too many": ring('1', '2', '3', '4', '5', '6', '7', '8', '9').Format()} {
		if k, err := ParseKeys(text); err == nil {
			t.Errorf("%s: %v", name, k)
		}
	}
	g := start(t, "plain", nil)
	if _, err := g.SetKeys(ring('1')); err == nil {
		t.Error("gossip that began in the clear is encrypted all at once, and alone")
	}
}
