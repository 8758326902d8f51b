package evidence

import (
	"maps"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// settle is how long takeovers from a server that is well must lie back before
// they are history. It is longer than it takes to find a fault, so that clients
// who leave by themselves before the verdict still count as moved by the
// Failover that follows.
const settle = 5 * time.Second

// forgetOrigin is how long takeovers from an incarnation that no record names
// any more are remembered.
const forgetOrigin = time.Hour

// forgetFormer is how long the incarnations that a server had before are
// remembered: as long as the store keeps the index of their sessions.
const forgetFormer = 24 * time.Hour

// server is the last known record of a server.
type server struct {
	record store.Server
	// live: the lease that carries the record lives. changed is when that changed.
	live    bool
	changed time.Time
	// registered is when this incarnation was first seen; zero: in the first snapshot.
	registered time.Time
	// written is when the record was last rewritten, writes how often it was,
	// and takenOver how many had been taken over from it by then.
	written   time.Time
	writes    int
	takenOver int
	well      Baseline
	// wellFrom is the value of writes that well.Clients was read at.
	wellFrom int
	// former are the incarnations that this one followed, and when each was replaced.
	former map[string]time.Time
}

// Baseline is what a server held when it was last seen well.
type Baseline struct {
	Clients int
	// TakenOver counts takeovers from this incarnation up to then.
	TakenOver store.Takeovers
}

// origin is the takeovers from one incarnation by all others.
type origin struct {
	total store.Takeovers
	// growth holds the totals after each change, oldest first, until they settle.
	growth []growth
	last   time.Time
}

type growth struct {
	at    time.Time
	total store.Takeovers
}

// before is the total as it was at a time.
func (o *origin) before(at time.Time) store.Takeovers {
	total := store.Takeovers{}
	if o == nil {
		return total
	}
	for _, g := range o.growth {
		if g.at.After(at) {
			break
		}
		total = g.total
	}
	return total
}

// settled drops what lies further back than any question goes, but for the last.
func (o *origin) settled(now time.Time) {
	keep := now.Add(-max(settle, LeftWindow) - time.Second)
	for len(o.growth) > 1 && o.growth[1].at.Before(keep) {
		o.growth = o.growth[1:]
	}
}

// UpdateServers takes a change of the servers' records.
func (b *Book) UpdateServers(u store.Update[string, store.Server]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	now := b.now()
	if u.Reset {
		for name, s := range b.servers {
			if _, ok := u.Put[name]; !ok {
				s.gone(now)
			}
		}
	}
	first := b.filled&fromServers == 0
	for name, record := range u.Put {
		b.count(name, record, now, first)
	}
	for name, record := range u.Put {
		s := b.servers[name]
		if s == nil {
			s = &server{}
			b.servers[name] = s
		}
		if !s.live {
			s.live, s.changed = true, now
		}
		fresh := s.record.Incarnation != record.Incarnation
		if fresh && s.record.Incarnation != "" {
			s.followed(now)
		}
		s.record, s.written = record, now
		s.writes++
		s.takenOver = b.takeovers(record.Incarnation).Total()
		if fresh {
			if s.registered = now; first {
				s.registered = time.Time{}
			}
			s.well, s.wellFrom = Baseline{Clients: record.Total(), TakenOver: b.takeovers(record.Incarnation)}, s.writes
		}
	}
	for _, name := range u.Deleted {
		if s := b.servers[name]; s != nil {
			s.gone(now)
		}
	}
	maps.DeleteFunc(b.origins, func(_ string, o *origin) bool { return now.Sub(o.last) > forgetOrigin })
	b.arrived(fromServers, u.Reset)
}

// followed notes that the present incarnation is being replaced.
func (s *server) followed(now time.Time) {
	if s.former == nil {
		s.former = map[string]time.Time{}
	}
	maps.DeleteFunc(s.former, func(_ string, at time.Time) bool { return now.Sub(at) > forgetFormer })
	s.former[s.record.Incarnation] = now
}

func (s *server) gone(now time.Time) {
	if s.live {
		s.live, s.changed = false, now
	}
}

// count adds what a record says of takeovers beyond what the same incarnation
// said before. What a receiver counted stays counted when it restarts. The
// caller holds mu, and has not yet replaced the old record.
func (b *Book) count(name string, record store.Server, now time.Time, first bool) {
	var before map[string]store.Takeovers
	if s := b.servers[name]; s != nil && s.record.Incarnation == record.Incarnation {
		before = s.record.Takeovers
	}
	for from, t := range record.Takeovers {
		o := b.origins[from]
		if o == nil {
			o = &origin{}
			b.origins[from] = o
		}
		o.last = now
		was := before[from]
		grown := t.Since(was)
		if grown.Total() == 0 {
			continue
		}
		o.total = o.total.Plus(grown)
		at := now
		if first {
			at = time.Time{} // history: when it happened is not known
		}
		o.growth = append(o.growth, growth{at: at, total: o.total})
		o.settled(now)
	}
}

func (b *Book) takeovers(incarnation string) store.Takeovers {
	if o := b.origins[incarnation]; o != nil {
		return o.total
	}
	return store.Takeovers{}
}

// LeftWindow is how far back the clients' word goes.
const LeftWindow = 5 * time.Second

// Server is what is known of one server.
type Server struct {
	Record store.Server
	// Known: a record has been seen. Live: its lease lives.
	Known, Live bool
	// Registered is when its incarnation was first seen; zero: before anyone's memory.
	Registered time.Time
	// Changed is when Live last changed, Written when the record last was.
	Changed, Written time.Time
	// Well is what it held when it was last seen well.
	Well Baseline
	// TakenOver counts takeovers from its incarnation by all others.
	TakenOver store.Takeovers
	// Left is how many of the record's sessions have been taken over since the
	// record was written.
	Left int
	// LeftLate is how many said within LeftWindow that its answers were late, and
	// LeftBroken that their connection broke.
	LeftLate, LeftBroken int
	// Service: it is no heartbeat server, and has no record. What stands for one is
	// made of what Kubernetes and its kernel say.
	Service bool
}

// Lease says what etcd says of the server's record.
func (s Server) Lease() verdict.Lease {
	switch {
	case !s.Known:
		return verdict.LeaseUnknown
	case s.Live:
		return verdict.LeaseLive
	default:
		return verdict.LeaseGone
	}
}

// Server is what is known of a server at a time.
func (b *Book) Server(name string, now time.Time) Server {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server(name, now)
}

func (b *Book) server(name string, now time.Time) Server {
	s := b.servers[name]
	if s == nil {
		return Server{}
	}
	total := b.takeovers(s.record.Incarnation)
	lately := total.Since(b.origins[s.record.Incarnation].before(now.Add(-LeftWindow)))
	return Server{
		Record: s.record, Known: true, Live: s.live, Changed: s.changed, Written: s.written,
		Registered: s.registered,
		Well:       s.well,
		TakenOver:  total,
		Left:       max(0, total.Total()-s.takenOver),
		LeftLate:   lately.Late, LeftBroken: lately.Broken,
	}
}

// Servers is what is known of all servers at a time.
func (b *Book) Servers(now time.Time) map[string]Server {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]Server, len(b.servers))
	for name := range b.servers {
		all[name] = b.server(name, now)
	}
	return all
}

// Takeovers from an incarnation by all others, whether or not they still live.
func (b *Book) Takeovers(incarnation string) store.Takeovers {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.takeovers(incarnation)
}

// Former are the incarnations that a server had before the present one, as far
// as this process has seen, and when each was replaced.
func (b *Book) Former(name string) map[string]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.servers[name]; s != nil {
		return maps.Clone(s.former)
	}
	return nil
}

// Settle moves the baseline of a server that was found well: to its record, if
// that was rewritten, else up to the takeovers that lie back far enough.
func (b *Book) Settle(name string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.servers[name]
	if s == nil || !s.live {
		return
	}
	inc := s.record.Incarnation
	if s.wellFrom != s.writes {
		s.well, s.wellFrom = Baseline{Clients: s.record.Total(), TakenOver: b.takeovers(inc)}, s.writes
		return
	}
	if old := b.origins[inc].before(now.Add(-settle)); old.Total() > s.well.TakenOver.Total() {
		s.well.TakenOver = old
	}
}

// Empty notes that nobody is left of the sessions of a server whose lease is gone.
func (b *Book) Empty(name string) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	if s := b.servers[name]; s != nil && !s.live {
		s.record.Sessions, s.record.Late = nil, nil
	}
}

// Forget drops servers that have been gone for long: keep tells which still
// have a pod.
func (b *Book) Forget(keep func(server string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	maps.DeleteFunc(b.servers, func(name string, s *server) bool {
		return !s.live && !keep(name) && now.Sub(s.changed) > forgetFormer
	})
	standIns := map[string]bool{}
	for _, a := range b.assignments {
		for _, s := range a.StandIns {
			standIns[s.Name] = true
		}
	}
	maps.DeleteFunc(b.authors, func(who string, _ author) bool { return b.beats[who] == nil && !standIns[who] })
}
