package failover

import (
	"fmt"
	"time"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// arriveWithin is how long the clients of a server that has no connection left are
// waited for elsewhere: nobody knows whether they come back, and some don't.
const arriveWithin = 5 * time.Second

// Service is what is known of a server that is not a heartbeat server. It can't tell
// its clients to go, and they don't say where they come from: their connections are
// counted, by the kernels of the servers' nodes.
type Service struct {
	// Left is how many connections the server has, as its kernel told last, and
	// Elsewhere how many the other servers have; Left below 0: not known.
	Left, Elsewhere int
	// Severed is what the severer says, which looks more often while it is asked to.
	Severed *v1alpha1.Severed
}

// ended is how many connections the severer has ended.
func (s *Service) ended() int {
	if s.Severed == nil {
		return 0
	}
	return int(s.Severed.Connections)
}

// left is how many connections the server still has; below 0: not known.
func (s *Service) left() int {
	if s.Severed != nil && s.Severed.Port != 0 {
		return int(s.Severed.Remaining)
	}
	return s.Left
}

// connections follows the connections of a server that has no record until none is
// left, and they have had the time to come up elsewhere. The growth of the others is
// taken for theirs, up to as many as have left.
func (s Step) connections(fo *v1alpha1.Failover, f Facts) Step {
	if s.Memory.Elsewhere < 0 {
		s.Memory.Elsewhere = max(0, f.Service.Elsewhere-int(s.Status.Moved))
	}
	left, clients := f.Service.left(), s.Memory.Clients
	if !f.Server.Known {
		left = 0 // its pod is gone
	}
	gone := clients
	if left >= 0 {
		gone = max(0, clients-left)
	}
	moved := max(int(s.Status.Moved), min(gone, f.Service.Elsewhere-s.Memory.Elsewhere))
	if moved > int(s.Status.Moved) {
		if s.Status.Moved == 0 {
			s.Status.FirstMovedAt = micro(f.Now)
		}
		s.Memory.Grown = f.Now
	}
	severed := min(moved, f.Service.ended())
	s.Status.Moved = int32(moved)
	s.Status.MovedBy = v1alpha1.MovedBy{Severed: int32(severed), OwnTimeout: int32(moved - severed)}
	pending := left
	if left < 0 {
		pending = max(0, clients-moved)
	}
	s.Status.Pending = int32(pending)
	if left != 0 {
		s.Memory.Emptied = time.Time{}
	} else if s.Memory.Emptied.IsZero() {
		s.Memory.Emptied = f.Now
	}
	switch {
	case left < 0 && clients > 0 && moved >= clients,
		left == 0 && (moved >= clients || f.Now.Sub(latest(s.Memory.Emptied, s.Memory.Grown)) >= arriveWithin):
		return s.end(fo, f, v1alpha1.ReasonMoved, fmt.Sprintf(
			"No connection is left of %d: %d were ended, and the other servers have %d more than before.", clients, f.Service.ended(), moved))
	case faulty(fo) && f.State == verdict.Alive:
		return s.end(fo, f, v1alpha1.ReasonRecovered, fmt.Sprintf("The server answers again; %d connections stay with it.", pending))
	case !f.Now.Before(s.deadline(f)):
		return s.end(fo, f, v1alpha1.ReasonTimedOut, fmt.Sprintf("%d connections were left at the deadline%s.", pending, f.why(fo)))
	}
	return s.goOn(fo, f)
}

// why says what keeps connections from being ended, where that is plain.
func (f Facts) why(fo *v1alpha1.Failover) string {
	switch {
	case f.Sever.Policy.Mode != v1alpha1.SeverPaced:
		return ": nobody ends them while failover.sever.mode is not " + string(v1alpha1.SeverPaced)
	case !faulty(fo):
		return ": those of a server that answers are not ended"
	case f.Service.Left < 0 && f.Service.Severed == nil:
		return ": nobody asks the kernel of the server's node"
	}
	return ""
}
