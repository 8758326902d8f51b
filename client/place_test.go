package client

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// place is what the last CONNECT declared.
func (s *scripted) place() (p Place) {
	connects, _, _ := s.seen()
	for _, u := range connects[len(connects)-1].Properties.User {
		switch u.Key {
		case wire.PropNetwork:
			p.Network = u.Value
		case wire.PropRegion:
			p.Region = u.Value
		}
	}
	return p
}

// reported adds up the outcomes that came.
func (s *scripted) reported() (all map[int64][2]int, reports int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all = map[int64][2]int{}
	for _, p := range s.taken {
		var b struct{ Outcomes []wire.Outcomes }
		if p.topic != wire.TopicBeat || json.Unmarshal(p.payload, &b) != nil || b.Outcomes == nil {
			continue
		}
		reports++
		for _, o := range b.Outcomes {
			n := all[o.Interval]
			all[o.Interval] = [2]int{n[0] + o.Answered, n[1] + o.Lost}
		}
	}
	return all, reports
}

func TestAClientDeclaresWhereItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, func(c *Config) { c.Place = Place{NetworkCell, "cn"} }, a)
		s.expect(Connected, a)
		if got := one.place(); got != (Place{"cell", "cn"}) {
			t.Errorf("declared %+v", got)
		}
		if err := s.SetPlace(Place{Network: NetworkWiFi}); err != nil {
			t.Error(err)
		}
		s.NetworkChanged("home")
		s.expect(Connected, a)
		if got := one.place(); got != (Place{"wifi", ""}) {
			t.Errorf("declared %+v", got)
		}
		if err := s.SetPlace(Place{Region: "a b"}); err == nil {
			t.Error("a region with a space was accepted")
		}
		s.close()
	})
}

func TestTheIntervalThatItsPlaceIsGivenIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		one.keep = 2
		s := newWorld(one).start(t, func(c *Config) { c.Place = Place{Network: NetworkCell} }, a)
		s.expect(Connected, a)
		s.quiet(20*time.Second + time.Millisecond)
		if n := one.pinged(); n != 11 {
			t.Errorf("%d beats in 20 s, want one every 2 s", n)
		}
		s.close()
	})
}

func TestSilencesThatWereSurvivedAreReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, func(c *Config) { c.Place, c.Interval = Place{Network: NetworkCell}, time.Minute }, a)
		s.expect(Connected, a)
		s.quiet(140 * time.Minute)
		all, reports := one.reported()
		if reports != 2 || all[60_000][0] < 2*reportAfter || all[60_000][1] != 0 {
			t.Errorf("%d reports: %v", reports, all)
		}
		s.close()
	})
}

func TestWithoutANetworkNothingIsReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, func(c *Config) { c.Interval = time.Minute }, a)
		s.expect(Connected, a)
		s.quiet(140 * time.Minute)
		if _, reports := one.reported(); reports != 0 {
			t.Errorf("%d reports", reports)
		}
		s.close()
	})
}

func TestASilenceThatCostTheConnectionIsReportedAfterIt(t *testing.T) {
	var lost tally
	lost.add(time.Minute, false)
	if lost.due(epoch) {
		t.Error("it reports without a network")
	}
	lost.on = true
	lost.add(10*time.Second, false)
	if lost.due(epoch) {
		t.Error("it reports a silence that everything survives")
	}
	lost.add(295*time.Second, false)
	lost.add(295*time.Second, true)
	if !lost.due(epoch) {
		t.Fatal("the loss is not reported")
	}
	if got := lost.take(epoch); len(got) != 1 || got[0] != (wire.Outcomes{Interval: 270_000, Answered: 1, Lost: 1}) {
		t.Errorf("reported %+v", got)
	}
	lost.add(time.Minute, false)
	if lost.due(epoch.Add(reportEvery - 1)) {
		t.Error("it reports twice in a minute")
	}
	for range 10_000 {
		lost.add(time.Minute, true)
	}
	if err := wire.CheckOutcomes(lost.take(epoch)); err != nil {
		t.Error(err)
	}
}
