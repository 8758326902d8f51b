package session

import (
	"fmt"
	"testing"
	"time"
)

func TestAWalkMeetsEverySessionOnceHoweverItIsCut(t *testing.T) {
	table := NewTable[line]()
	class := table.Class("im", "phone", false)
	attach := func(name string) Attached[line] {
		got, err := table.Attach(Arrival[line]{Class: class, Client: name, Principal: "p", Link: &line{}, Now: 1, Lease: Lease{Offline: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := map[string]bool{}
	var some []Attached[line]
	for i := range 5000 {
		name := fmt.Sprintf("c%d", i)
		got := attach(name)
		if want[name] = i%3 != 0; i%3 == 0 {
			some = append(some, got)
		}
	}
	for _, cut := range []struct{ looked, taken int }{{1 << 20, 1 << 20}, {1, 1}, {7, 3}, {1000, 33}, {32, 1000}} {
		met := map[string]int{}
		walks, changed := 0, false
		for at := Position(0); ; {
			taken := 0
			at = table.Walk(at, cut.looked, func(v View[line]) bool {
				met[v.Client]++
				taken++
				return taken < cut.taken
			})
			if taken > min(cut.looked, cut.taken) {
				t.Fatalf("%+v: %d sessions at once", cut, taken)
			}
			if walks++; at == 0 {
				break
			}
			if !changed && walks == 3 { // meanwhile some end, and others come in their place
				changed = true
				for _, a := range some {
					view, _ := table.Find(class, a.Session.client)
					table.Drop(class, view.Client, view.Arrival)
				}
				for i := range some {
					some[i] = attach(fmt.Sprintf("c%d", 3*i))
				}
			}
		}
		for name, stays := range want {
			if n := met[name]; stays && n != 1 {
				t.Fatalf("%+v: %s was met %d times", cut, name, n)
			}
		}
	}
	if at := NewTable[line]().Walk(0, 10, func(View[line]) bool { t.Error("nobody is there"); return true }); at != 0 {
		t.Errorf("an empty table goes on at %d", at)
	}
	if at := table.Walk(1<<62, 10, func(View[line]) bool { t.Error("there is nothing beyond the end"); return true }); at != 0 {
		t.Errorf("beyond the end it goes on at %d", at)
	}
}

func TestABeatAloneIsOfASessionWithoutALink(t *testing.T) {
	table := NewTable[line]()
	class := table.Class("im", "phone", false)
	lease := Lease{Interval: time.Second, Late: time.Second, Offline: 2 * time.Second}
	held := &line{}
	got, err := table.Attach(Arrival[line]{Class: class, Client: "c", Principal: "alice", Link: held, Now: 1, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	beat := func(client, principal string, interval time.Duration) bool {
		_, ok := table.BeatAlone(class, client, principal, interval, 5)
		return ok
	}
	if beat("c", "alice", time.Second) {
		t.Error("one with a link was taken")
	}
	table.Release(got.Session, held)
	for name, wrong := range map[string]bool{
		"another principal": beat("c", "bob", time.Second), "another interval": beat("c", "alice", 2*time.Second), "another client": beat("d", "alice", time.Second),
	} {
		if wrong {
			t.Errorf("%s was taken", name)
		}
	}
	if v, _ := table.Find(class, "c"); v.LastBeat != 1 {
		t.Errorf("it beat at %d", v.LastBeat)
	}
	if !beat("c", "alice", time.Second) {
		t.Error("its own beat was not taken")
	}
	if v, ok := table.Find(class, "c"); !ok || v.LastBeat != 5 {
		t.Errorf("it beat at %d", v.LastBeat)
	}
	table.Attend(class, "c", true)
	if attend, ok := table.BeatAlone(class, "c", "alice", time.Second, 6); !attend || !ok {
		t.Error("nobody is told of a beat that somebody waits for")
	}
}
