package judge

import (
	"time"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// service is what stands for the record of a server that has none: its pod is its
// incarnation, and its clients are the connections that its kernel counts.
func service(presence string, p Pod, k verdict.Kernel) evidence.Server {
	s := evidence.Server{
		Service: true, Known: true, Live: true,
		Record: store.Server{Incarnation: string(p.UID), Address: p.Address, Node: p.Node},
	}
	if s.Record.Address == "" {
		s.Record.Address = p.Name // so that it can receive: nobody reads where it is
	}
	if k.Connections > 0 {
		s.Record.Sessions = map[string]int{presence: k.Connections}
		s.Well.Clients = k.Connections
	}
	return s
}

// known is what is known of a server at a time: of one that has no record, as of
// the last judgement.
func (j *Judge) known(r *Result, server string, now time.Time) evidence.Server {
	if s, ok := r.Servers[server]; ok && s.Service {
		return s
	}
	return j.cfg.Book.Server(server, now)
}

// service is what a Failover must know of one of its servers that has no record.
func (p *Population) service(server string, severed *v1alpha1.Severed) *failover.Service {
	s := &failover.Service{Severed: severed, Left: -1}
	for name, e := range p.evidence {
		switch {
		case name == server && e.Kernel.Online:
			s.Left = e.Kernel.Connections
		case name != server && e.Kernel.Connections > 0:
			s.Elsewhere += e.Kernel.Connections
		}
	}
	return s
}
