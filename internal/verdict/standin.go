package verdict

// StandIns chooses who observes a server besides the agents, where fewer than k
// of them can: at most so many that there are k in all, of candidates that are no
// agents. Failure domains (zones, and where all are of one zone machines) that
// nobody assigned is of come first. Unlike agents they may be on the server's own
// machine: in a cluster of two there is no other second domain, and in one of a
// single machine no other place at all.
//
// It is the rendezvous hashing of Assign, so that few change when one comes or
// goes.
func StandIns(subject string, agents []Observer, candidates []Candidate, k int) []Observer {
	if len(agents) >= k {
		return nil
	}
	all := make([]Observer, 0, len(agents)+len(candidates))
	all = append(all, agents...)
	for _, c := range candidates {
		all = append(all, c.Observer)
	}
	byZone := zoned(all)
	domain := func(o Observer) string {
		if byZone {
			return o.Zone
		}
		return o.machine()
	}
	covered := make(map[string]bool, k)
	for _, a := range agents {
		covered[domain(a)] = true
	}

	seed := mix(hashString(subject))
	ranked := make([]scored, 0, len(candidates))
	for _, v := range NewElectorate(candidates).voters {
		ranked = keepTop(ranked, scored{score: mix(seed ^ v.hash), voter: &v}, len(candidates))
	}
	chosen := make([]Observer, 0, k-len(agents))
	take := func(fresh bool) {
		for i, s := range ranked {
			if s.voter == nil || len(chosen) == cap(chosen) || fresh && covered[domain(s.Observer)] {
				continue
			}
			covered[domain(s.Observer)] = true
			chosen = append(chosen, s.Observer)
			ranked[i].voter = nil
		}
	}
	take(true)
	take(false)
	return chosen
}

// agents counts those who are no stand-ins.
func agents(all []Observer) int {
	n := 0
	for _, o := range all {
		if o.Agent() {
			n++
		}
	}
	return n
}
