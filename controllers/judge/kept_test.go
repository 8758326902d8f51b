package judge

import (
	"slices"
	"testing"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func TestWhoCanObserveStandsIn(t *testing.T) {
	server := func(change func(*evidence.Server)) evidence.Server {
		s := evidence.Server{Known: true, Live: true, Record: store.Server{Observes: 7}}
		if change != nil {
			change(&s)
		}
		return s
	}
	r := &Result{Servers: map[string]evidence.Server{
		"im/subject": server(nil),
		"im/well":    server(nil),
		"im/unknown": server(nil),
		"im/gone":    server(func(s *evidence.Server) { s.Live = false }),
		"im/cannot":  server(func(s *evidence.Server) { s.Record.Observes = 0 }),
		"im/leaving": server(func(s *evidence.Server) { s.Record.Leaving = true }),
		"im/hung":    server(nil),
	}}
	j := &Judge{roster: &roster{}}
	j.last.Store(&Result{verdicts: map[string]verdict.Verdict{"im/well": {State: verdict.Alive}, "im/hung": {State: verdict.Overloaded}}})
	spec := &v1alpha1.ServersSpec{Overload: v1alpha1.OverloadSpec{Observers: 5}}
	var got []string
	for _, s := range j.standIns(r, Pod{Name: "im/subject"}, spec, nil).StandIns {
		name, _ := store.ObservingServer(s.Name)
		got = append(got, name)
	}
	slices.Sort(got)
	if want := []string{"im/unknown", "im/well"}; !slices.Equal(got, want) {
		t.Errorf("%v stand in, want %v", got, want)
	}

	spec.Probe.HTTP = &v1alpha1.HTTPProbe{}
	if got := j.standIns(r, Pod{Name: "im/subject"}, spec, nil).StandIns; len(got) > 0 {
		t.Errorf("%v stand in for a service, and none of them speaks HTTP", got)
	}
}
