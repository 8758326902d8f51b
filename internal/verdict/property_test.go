package verdict_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

var (
	bands  = []string{"ok", "ok", "slow", "hung", "lossy", "unasked", "refused", "unreachable", "tomorrow's"}
	states = []verdict.State{"", verdict.Alive, verdict.Suspect, verdict.Overloaded, verdict.Dead, verdict.Unknown}
	said   = []string{"", "alive", "suspect", "dead", "dead", "agentDown", "left"}
)

func drawObservers(t *rapid.T, label string) []verdict.Observer {
	var l []verdict.Observer
	zones := rapid.IntRange(1, 3).Draw(t, label+"Zones")
	for i := range rapid.IntRange(0, 5).Draw(t, label) {
		o := verdict.Observer{Name: fmt.Sprint("n", i), Zone: fmt.Sprint("z", rapid.IntRange(1, zones).Draw(t, "zone"))}
		if rarely(t, "standIn") {
			o.Node = "n0"
		}
		l = append(l, o)
	}
	return l
}

func drawServer(t *rapid.T, name string, now time.Time) verdict.ServerEvidence {
	e := verdict.ServerEvidence{
		Name: name, Incarnation: rapid.SampledFrom([]string{"", "1", "1", "1", "2"}).Draw(t, "incarnation"),
		Starting: rarely(t, "starting"), Terminating: rarely(t, "terminating"), Paused: rarely(t, "paused"),
		Lease:      rapid.SampledFrom([]verdict.Lease{"", verdict.LeaseLive, verdict.LeaseLive, verdict.LeaseGone}).Draw(t, "lease"),
		NodeState:  rapid.SampledFrom(states).Draw(t, "node"),
		LeftLate:   rapid.SampledFrom([]int{0, 0, 0, 2, 3, 40}).Draw(t, "left"),
		LeftBroken: rapid.SampledFrom([]int{0, 0, 0, 2, 3, 40}).Draw(t, "broken"),
		Sessions:   rapid.SampledFrom([]int{0, 100, 2000}).Draw(t, "sessions"),
		QueueDelay: rapid.SampledFrom([]time.Duration{0, 0, 0, 100 * time.Millisecond, time.Second}).Draw(t, "queue"),
		Assigned:   drawObservers(t, "observers"),
	}
	if rarely(t, "past") {
		e.Past = verdict.Past{
			Incarnation: "1", Penalty: 7000, At: now.Add(-time.Minute),
			Suppressed: now.Add(time.Duration(rapid.IntRange(-10, 10).Draw(t, "suppressed")) * time.Minute),
		}
	}
	e.Kernel = verdict.Kernel{
		Band:   rapid.SampledFrom([]string{"", "ok", "ok", "queueFull", "unread", "closed", "blind"}).Draw(t, "kernel"),
		Strain: rapid.SampledFrom([]string{"", "", "", "throttled", "memory"}).Draw(t, "strain"),
		Online: !rarely(t, "severerOffline"), Healthy: !rarely(t, "severerUnwell"), Booted: drawBoot(t, now),
	}
	for _, o := range append(slices.Clone(e.Assigned), verdict.Observer{Name: "stranger", Zone: "z9"}) {
		if rarely(t, "mute") {
			continue
		}
		e.Observations = append(e.Observations, verdict.Observation{
			Observer: o, Band: rapid.SampledFrom(bands).Draw(t, "band"),
			Seen:        now.Add(-time.Duration(rapid.IntRange(0, 8000).Draw(t, "ago")) * time.Millisecond),
			Incarnation: rapid.SampledFrom([]string{"", "1", "1", "1", "2"}).Draw(t, "spokenTo"),
			Healthy:     !rarely(t, "unwell"), Online: !rarely(t, "offline"), Booted: drawBoot(t, now),
			Answer: rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 300 * time.Millisecond, time.Second}).Draw(t, "answer"),
		})
	}
	return e
}

// drawBoot is when an author's life was first heard of: of most long ago.
func drawBoot(t *rapid.T, now time.Time) time.Time {
	if !rarely(t, "young") {
		return time.Time{}
	}
	return now.Add(-time.Duration(rapid.IntRange(0, 6000).Draw(t, "boot")) * time.Millisecond)
}

func grown(now, booted time.Time) bool { return booted.IsZero() || now.Sub(booted) >= 3*time.Second }

func drawWorld(t *rapid.T, now time.Time) verdict.World {
	w := verdict.World{Now: now, Warm: !rarely(t, "cold"), Paused: rarely(t, "stop")}
	switch rapid.IntRange(0, 9).Draw(t, "store") {
	case 0:
		w.StoreAway = time.Duration(rapid.IntRange(1, 20000).Draw(t, "away")) * time.Millisecond
	case 1:
		w.StoreBack = now.Add(-time.Duration(rapid.IntRange(0, 9000).Draw(t, "back")) * time.Millisecond)
	}
	return w
}

func rarely(t *rapid.T, label string) bool { return rapid.IntRange(0, 9).Draw(t, label) == 0 }

// TestServersUnderRandomEvidence judges random evidence over and over, with
// each judgement's outcome as the next one's memory.
func TestServersUnderRandomEvidence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		var last verdict.Judgement
		policy := verdict.ServerPolicy{}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 12000).Draw(t, "later")) * time.Millisecond)
			w := drawWorld(t, now)
			var ev []verdict.ServerEvidence
			for i := range rapid.IntRange(0, 8).Draw(t, "servers") {
				ev = append(ev, drawServer(t, fmt.Sprint("s", i), now))
			}
			j := verdict.Servers(w, policy, ev, last.Verdicts, last.Brake)
			checkServers(t, w, ev, last, j)

			again := verdict.Servers(w, policy, ev, j.Verdicts, j.Brake)
			if d := cmp.Diff(j, again); d != "" {
				t.Fatalf("judging again at the same moment changes the judgement:\n%s", d)
			}
			slices.Reverse(ev)
			turned := verdict.Servers(w, policy, ev, maps.Clone(last.Verdicts), last.Brake)
			if d := cmp.Diff(j, turned); d != "" {
				t.Fatalf("the order of the evidence changes the judgement:\n%s", d)
			}
			checkNext(t, w.Now, j.Next, func(at time.Time) verdict.Judgement {
				later := w
				later.Now = at
				if w.StoreAway > 0 {
					later.StoreAway += at.Sub(now)
				}
				return verdict.Servers(later, policy, ev, j.Verdicts, j.Brake)
			}, j)
			last = j
		}
	})
}

// checkNext demands that nothing but the moment to look again changes before Next.
func checkNext(t *rapid.T, now, next time.Time, judge func(time.Time) verdict.Judgement, j verdict.Judgement) {
	if !next.IsZero() && !next.After(now) {
		t.Fatalf("Next is %v, and it is %v already", next, now)
	}
	before := now.Add(time.Hour)
	if !next.IsZero() {
		before = next.Add(-1)
	}
	if d := cmp.Diff(j, judge(before)); d != "" {
		t.Fatalf("time alone changes the judgement before Next (%v):\n%s", next, d)
	}
	if !next.IsZero() && cmp.Equal(j, judge(next)) {
		t.Fatalf("nothing changes at Next (%v)", next)
	}
}

func checkServers(t *rapid.T, w verdict.World, ev []verdict.ServerEvidence, last, j verdict.Judgement) {
	lost, total, healthy := 0, 0, 0
	for _, e := range ev {
		v, was := j.Verdicts[e.Name], last.Verdicts[e.Name]
		exempt := e.Starting || e.Terminating || e.Paused
		switch {
		case v.Proven && !v.State.Bad():
			t.Fatalf("%s is %s, and Proven", e.Name, v.State)
		case v.State.Bad() && exempt:
			t.Fatalf("%s is %s, and exempt", e.Name, v.State)
		case v.State.Bad() && !v.Proven && !was.State.Bad() && !was.Held.Bad():
			t.Fatalf("%s became %s without a proof", e.Name, v.State)
		case v.Proven:
			twoWitnesses(t, w, e, v, ev)
		case (was.State.Bad() || was.Held.Bad()) && v.State == verdict.Alive && said2(w.Now, e, "ok") < len(e.Assigned)/2+1:
			t.Fatalf("%s recovered without a majority", e.Name)
		}
		if v.State.Bad() || v.State == verdict.Suspect {
			if v.Detected.IsZero() || v.Detected.After(w.Now) {
				t.Fatalf("%s is %s, detected at %v", e.Name, v.State, v.Detected)
			}
		}
		if v.Message == "" || v.Reason == "" || v.Since.IsZero() || v.Since.After(w.Now) {
			t.Fatalf("%s: incomplete verdict %+v", e.Name, v)
		}
		if e.Starting || e.Terminating {
			continue
		}
		total++
		if v.State.Bad() || v.Held.Bad() {
			lost++
		}
		if v.State == verdict.Alive || v.State == verdict.Suspect && v.Held == "" {
			healthy++ // at most
		}
	}
	sure := w.Warm && !w.Paused && w.StoreAway < verdict.StoreAwayLimit
	if !sure && !j.Brake.Frozen {
		t.Fatalf("the brake is off in doubt: %+v", w)
	}
	if lost > 1 && float64(lost) > 0.15*float64(total) && !j.Brake.Frozen {
		t.Fatalf("the brake is off with %d of %d lost", lost, total)
	}
	if 2*healthy < total && !j.Brake.Frozen {
		t.Fatalf("the brake is off with at most %d of %d healthy", healthy, total)
	}
	if j.Brake.Frozen == (j.Brake.Reason == "" || j.Brake.Message == "") {
		t.Fatalf("a brake without words: %+v", j.Brake)
	}
}

// said2 counts the assigned whose word counts and is one of the bands.
func said2(now time.Time, e verdict.ServerEvidence, bands ...string) int {
	return len(speakers(now, e, bands...))
}

func speakers(now time.Time, e verdict.ServerEvidence, bands ...string) (l []verdict.Observer) {
	for _, o := range e.Observations {
		current := o.Incarnation == "" || e.Incarnation == "" || o.Incarnation == e.Incarnation
		if o.Online && o.Healthy && grown(now, o.Booted) && current && slices.Contains(bands, o.Band) && slices.Contains(e.Assigned, o.Observer) {
			l = append(l, o.Observer)
		}
	}
	return l
}

// twoWitnesses demands two observers of different failure domains and a
// majority, or one and another kind of evidence: said again, slowly.
func twoWitnesses(t *rapid.T, w verdict.World, e verdict.ServerEvidence, v verdict.Verdict, all []verdict.ServerEvidence) {
	now := w.Now
	accusers := speakers(now, e, "refused", "unreachable")
	if v.State == verdict.Overloaded {
		accusers = speakers(now, e, "slow", "hung")
	}
	zones, assigned := map[string]bool{}, map[string]bool{}
	for _, o := range e.Assigned {
		assigned[o.Zone] = true
	}
	for _, o := range accusers {
		if len(assigned) > 1 {
			zones[o.Zone] = true
		} else {
			machine := o.Node
			if o.Agent() {
				machine = o.Name
			}
			zones[machine] = true
		}
	}
	majority := 2*len(accusers) > len(e.Assigned)
	storeWell := w.StoreAway < verdict.StoreAwayLimit && (w.StoreBack.IsZero() || w.Now.Sub(w.StoreBack) >= verdict.StoreAwayLimit)
	leaseGone := e.Lease == verdict.LeaseGone && storeWell
	other := leaseGone || e.NodeState == verdict.Dead
	if v.Reason == verdict.ReasonRefused {
		other = other || e.LeftBroken >= 3
	}
	if v.State == verdict.Overloaded {
		other = leaseGone || e.QueueDelay > verdict.DefaultAnswerTime || e.LeftLate >= 3 || kernelSays(now, e, all)
	}
	two := majority && len(zones) >= 2 || len(accusers) >= 1 && other
	if v.State == verdict.Overloaded && e.Kernel.Band == "queueFull" && kernelSays(now, e, all) {
		two = two || said2(now, e, "unreachable") >= 1
	}
	if !two || len(v.Witnesses) < 2 {
		t.Fatalf("%s is %s by %v (zones %v, others %v): %s", e.Name, v.State, accusers, zones, other, v.Message)
	}
}

// kernelSays tells whether the kernel of its node speaks against a server, and no
// majority for it: that it does nothing, or that its pod is kept from running as most are not.
func kernelSays(now time.Time, e verdict.ServerEvidence, all []verdict.ServerEvidence) bool {
	counts := func(k verdict.Kernel) bool { return k.Online && k.Healthy && grown(now, k.Booted) }
	strained := 0
	for _, o := range all {
		if counts(o.Kernel) && o.Kernel.Strain != "" {
			strained++
		}
	}
	alike := strained >= 2 && strained > len(all)-strained
	hangs, held := slices.Contains([]string{"queueFull", "unread"}, e.Kernel.Band), e.Kernel.Strain != "" && !alike
	prompt := e
	prompt.Observations = slices.DeleteFunc(slices.Clone(e.Observations), func(o verdict.Observation) bool { return o.Answer >= verdict.DefaultAnswerTime/2 })
	half := len(e.Assigned) / 2
	return counts(e.Kernel) && (hangs && said2(now, e, "ok") <= half || held && said2(now, prompt, "ok") <= half)
}

// TestNodesUnderRandomEvidence is the same for nodes.
func TestNodesUnderRandomEvidence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		var last verdict.Judgement
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 12000).Draw(t, "later")) * time.Millisecond)
			w := drawWorld(t, now)
			var ev []verdict.NodeEvidence
			for i := range rapid.IntRange(0, 8).Draw(t, "nodes") {
				ev = append(ev, drawNode(t, fmt.Sprint("m", i), now))
			}
			j := verdict.Nodes(w, ev, last.Verdicts, last.Brake)
			lost := 0
			for _, e := range ev {
				v := j.Verdicts[e.Name]
				if v.State == verdict.Dead {
					lost++
				}
				if v.State == verdict.Dead && !v.Proven && last.Verdicts[e.Name].State != verdict.Dead {
					t.Fatalf("%s became Dead without a proof", e.Name)
				}
				if v.Proven {
					provenNode(t, now, e, v)
				}
			}
			if lost > 1 && float64(lost) > 0.15*float64(len(ev)) && !j.Brake.Frozen {
				t.Fatalf("the brake is off with %d of %d lost", lost, len(ev))
			}
			if d := cmp.Diff(j, verdict.Nodes(w, ev, j.Verdicts, j.Brake)); d != "" {
				t.Fatalf("judging again at the same moment changes the judgement:\n%s", d)
			}
			checkNext(t, w.Now, j.Next, func(at time.Time) verdict.Judgement {
				later := w
				later.Now = at
				if w.StoreAway > 0 {
					later.StoreAway += at.Sub(now)
				}
				return verdict.Nodes(later, ev, j.Verdicts, j.Brake)
			}, j)
			last = j
		}
	})
}

func drawNode(t *rapid.T, name string, now time.Time) verdict.NodeEvidence {
	e := verdict.NodeEvidence{Name: name, Reporters: drawObservers(t, "reporters"), Deleted: rarely(t, "deleted"), Goodbye: rarely(t, "goodbye")}
	ago := func() time.Time {
		return now.Add(-time.Duration(rapid.IntRange(0, 8000).Draw(t, "ago")) * time.Millisecond)
	}
	for range rapid.IntRange(0, 2).Draw(t, "sessions") {
		e.Beats = append(e.Beats, verdict.Beats{
			Online: rapid.IntRange(0, 3).Draw(t, "online") == 0, Seen: ago(),
			ServerState: rapid.SampledFrom([]verdict.State{verdict.Alive, verdict.Alive, verdict.Suspect, verdict.Dead}).Draw(t, "server"),
		})
	}
	for _, r := range e.Reporters {
		if !rarely(t, "mute") {
			e.Words = append(e.Words, verdict.Word{Reporter: r, Says: rapid.SampledFrom(said).Draw(t, "says"), Seen: ago(),
				Healthy: !rarely(t, "unwell"), Online: !rarely(t, "offline"), Booted: drawBoot(t, now)})
		}
	}
	return e
}

// provenNode demands that beats stopped where somebody can tell, that two
// reporters hold the node dead and that nobody knows better.
func provenNode(t *rapid.T, now time.Time, e verdict.NodeEvidence, v verdict.Verdict) {
	dead := map[string]bool{}
	for _, w := range e.Words {
		if !w.Online || !w.Healthy || !grown(now, w.Booted) {
			continue
		}
		switch w.Says {
		case "dead":
			dead[w.Reporter.Name] = true
		case "alive", "agentDown":
			t.Fatalf("%s is Dead, and %s says %s", e.Name, w.Reporter.Name, w.Says)
		}
	}
	offline, doubted := 0, 0
	for _, b := range e.Beats {
		switch {
		case b.ServerState == verdict.Alive && b.Online:
			t.Fatalf("%s is Dead, and beats", e.Name)
		case b.ServerState == verdict.Alive:
			offline++
		case b.ServerState == verdict.Suspect && b.Online:
			doubted = -9 // one that may be right holds it
		case b.ServerState == verdict.Suspect:
			doubted++
		}
	}
	offline += max(doubted, 0)
	if len(dead) < 2 || offline == 0 || len(v.Witnesses) < 3 {
		t.Fatalf("%s is Dead by %v, %d of its sessions stopped", e.Name, dead, offline)
	}
}
