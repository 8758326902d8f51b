package failover

import (
	"fmt"
	"time"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// arriveWithin is how long a server must have had no connection for its Failover to
	// be over: some may come back to it before its Services have followed, and nobody
	// knows whether those that were ended come up elsewhere; some clients don't.
	arriveWithin = 5 * time.Second
	// settleWithin is how long the counts of the other servers may take to be of now,
	// once they are asked for more often: until then they tell what was before.
	settleWithin = 3 * time.Second
)

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

// Counts are what a leader remembers of a Service's connections.
type Counts struct {
	// Known: what follows has been taken from the kernels.
	Known bool
	// Elsewhere is how many the other servers had when the Failover was begun, less
	// what had been moved by then; Left is how many the server had at the last look.
	Elsewhere, Left int
	// Emptied is since when it has had none; zero: it has some. Progress is when some
	// left last, or when the move stood still last.
	Emptied, Progress time.Time
}

// ended is how many connections the severer has ended.
func (s *Service) ended() int {
	if s.Severed == nil {
		return 0
	}
	return int(s.Severed.Connections)
}

// left is how many connections the server has; below 0: not known. The severer's word
// counts while it is asked to look.
func (s Step) left(f Facts) int {
	switch d := f.Service.Severed; {
	case !f.Server.Known || f.Server.Record.Incarnation != s.Memory.Incarnation:
		return 0 // they ended with the pod
	case s.Status.Sever != nil && d != nil && d.Port != 0 && f.State != verdict.Dead:
		return int(d.Remaining)
	}
	return f.Service.Left
}

// connections follows the connections of a server that has no record until none is
// left. The growth of the others is taken for theirs, up to as many as have left.
func (s Step) connections(fo *v1alpha1.Failover, f Facts) Step {
	c, left := &s.Memory.Counts, s.left(f)
	// What the kernel told before may have been of before a crowd came.
	s.Memory.Clients = max(s.Memory.Clients, left+f.Service.ended())
	clients := s.Memory.Clients
	young := f.Now.Sub(s.Memory.Began) < settleWithin && f.Service.ended() == 0 && s.Status.Moved == 0
	if !c.Known || young {
		c.Elsewhere = f.Service.Elsewhere - int(s.Status.Moved)
	}
	if !c.Known || left != c.Left || s.Memory.Pace.Held != "" {
		c.Progress = f.Now
	}
	c.Known, c.Left = true, left
	if left != 0 {
		c.Emptied = time.Time{}
	} else if c.Emptied.IsZero() {
		c.Emptied = f.Now
	}

	gone := 0
	switch {
	case left >= 0:
		gone = max(0, clients-left)
	case f.State == verdict.Dead:
		gone = clients
	}
	moved := max(int(s.Status.Moved), min(gone, f.Service.Elsewhere-c.Elsewhere))
	if moved > int(s.Status.Moved) {
		if s.Status.Moved == 0 {
			s.Status.FirstMovedAt = micro(f.Now)
		}
		s.Memory.Grown = f.Now
	}
	pending := left
	if left < 0 {
		pending = max(0, clients-moved)
	}
	severed := min(moved, f.Service.ended())
	s.Status.Moved, s.Status.Pending = int32(moved), int32(pending)
	s.Status.MovedBy = v1alpha1.MovedBy{Severed: int32(severed), OwnTimeout: int32(moved - severed)}

	deadline := c.Progress.Add(MinDeadline)
	switch over := f.Now.Sub(latest(c.Emptied, s.Memory.Grown, s.Memory.Began)) >= arriveWithin; {
	case left == 0 && over:
		return s.end(fo, f, v1alpha1.ReasonMoved, fmt.Sprintf(
			"No connection is left of %d: %d were ended, and the other servers have %d more than before.", clients, f.Service.ended(), moved))
	case left < 0 && f.State == verdict.Dead && clients > 0 && pending == 0 && over:
		return s.end(fo, f, v1alpha1.ReasonMoved, fmt.Sprintf("The other servers have %d connections more than before: as many as it had.", moved))
	case faulty(fo) && f.State == verdict.Alive:
		return s.end(fo, f, v1alpha1.ReasonRecovered, fmt.Sprintf("The server answers again; %d connections stay with it.", pending))
	case !f.Now.Before(deadline):
		return s.end(fo, f, v1alpha1.ReasonTimedOut, fmt.Sprintf("%d connections are left, and none has ended for %v%s.", pending, MinDeadline, f.why()))
	}
	s.After = min(lookAgain, deadline.Sub(f.Now))
	return s.pace(fo, f).sever(fo, f)
}

// why says what keeps connections from being ended, where that is plain.
func (f Facts) why() string {
	switch {
	case !f.State.Bad():
		return ": those of a server that answers are not ended"
	case f.Sever.Node == "":
		return ": its pod is about to go"
	case f.Sever.Policy.Mode != v1alpha1.SeverPaced:
		return ": nobody ends them while failover.sever.mode is not " + string(v1alpha1.SeverPaced)
	case !f.Sever.Out:
		return ": new clients are still led to it"
	case f.Service.Left < 0 && f.Service.Severed == nil:
		return ": nobody asks the kernel of the server's node"
	}
	return ""
}
