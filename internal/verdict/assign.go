package verdict

// Assign chooses at most k of the candidates to watch a subject ("namespace/pod"
// of a server, or the name of a node), distinct zones first, never from
// subjectNode, the machine that the subject runs on (empty: not known). Agents and controller
// call it with the same candidates, in any order, and so agree without talking.
//
// It is rendezvous hashing (highest random weight): each candidate's score
// depends on the subject and itself alone. The best of each zone come first,
// the best zones before the others, then the rest by score. When a candidate
// comes or goes, at most one of the chosen is replaced, and nobody changes for
// a candidate that was not chosen.
func Assign(subject, subjectNode string, candidates []Candidate, k int) []Observer {
	if k <= 0 {
		return nil
	}
	seed := hashString(offset64, subject) * prime64 // a zero byte ends the subject
	zones := make([]scored, 0, 8)                   // the best of each zone
	top := make([]scored, 0, 2*k)                   // the best 2k of all, best first
	for i := range candidates {
		c := &candidates[i]
		if subjectNode != "" && (c.Node == subjectNode || c.Node == "" && c.Name == subjectNode) {
			continue
		}
		s := scored{score: mix(hashString(seed, c.Name)), Candidate: c}
		zones = keepZone(zones, s)
		top = keepTop(top, s, 2*k)
	}

	best := make([]scored, 0, k)
	for _, z := range zones {
		best = keepTop(best, z, k)
	}
	chosen := make([]Observer, 0, k)
	for _, s := range best {
		chosen = append(chosen, s.Observer)
	}
	// At most k of the best 2k are chosen already, so the others fill what is left.
	for _, s := range top {
		if len(chosen) == k {
			break
		}
		if !contains(best, s.Name) {
			chosen = append(chosen, s.Observer)
			best = append(best, s)
		}
	}
	return chosen
}

type scored struct {
	score uint64
	*Candidate
}

// before orders by score; names part those whose hashes collide.
func (s scored) before(o scored) bool {
	return s.score > o.score || s.score == o.score && s.Name < o.Name
}

func keepZone(zones []scored, s scored) []scored {
	for i := range zones {
		if zones[i].Zone == s.Zone {
			if s.before(zones[i]) {
				zones[i] = s
			}
			return zones
		}
	}
	return append(zones, s)
}

// keepTop inserts s into a list of at most n, best first.
func keepTop(top []scored, s scored, n int) []scored {
	if len(top) == n {
		if !s.before(top[n-1]) {
			return top
		}
		top = top[:n-1]
	}
	i := len(top)
	top = append(top, s)
	for ; i > 0 && s.before(top[i-1]); i-- {
		top[i] = top[i-1]
	}
	top[i] = s
	return top
}

func contains(l []scored, name string) bool {
	for i := range l {
		if l[i].Name == name {
			return true
		}
	}
	return false
}

// FNV-1a, 64 bits (RFC 9923): the same on every machine and in every release,
// which is what agents and controllers of different versions need.
const (
	offset64 uint64 = 14695981039346656037
	prime64  uint64 = 1099511628211
)

func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime64
	}
	return h
}

// mix is the finaliser of MurmurHash3: FNV alone leaves the high bits of names
// that differ in their last character nearly alike.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
