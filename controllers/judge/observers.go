package judge

import "github.com/rollcall-dev/rollcall/internal/verdict"

// electorate is the nodes that may watch others, those whose agent has been
// heard of, and what has been assigned to them. It is prepared anew only when
// one comes or goes: an assignment in a large cluster takes 40 µs, and there is
// one for every server and node in every judgement.
type electorate struct {
	voters *verdict.Electorate
	// from and crew are what it was made of.
	from     *roster
	crew     int
	assigned map[subject][]verdict.Observer
}

type subject struct {
	name, node string
	observers  int
}

// muster makes the electorate if it has changed.
func (j *Judge) muster() {
	e, crew := &j.observers, j.cfg.Book.Crew()
	if e.voters != nil && e.from == j.roster && e.crew == crew {
		return
	}
	agents := j.cfg.Book.Agents()
	var all []verdict.Candidate
	for _, c := range j.roster.candidates {
		if agents[c.Name] {
			all = append(all, c)
		}
	}
	*e = electorate{voters: verdict.NewElectorate(all), from: j.roster, crew: crew, assigned: map[subject][]verdict.Observer{}}
}

// assign chooses who watches a server or a node; the answer must not be changed.
func (e *electorate) assign(name, node string, observers int) []verdict.Observer {
	s := subject{name, node, observers}
	by, known := e.assigned[s]
	if !known {
		by = e.voters.Assign(name, node, observers)
		e.assigned[s] = by
	}
	return by
}
