package agent

import (
	"context"
	"time"

	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/agent/stall"
)

const (
	// healthEvery is how often the agent looks at itself: whenever its probers ask for
	// the second time.
	healthEvery = 2 * probe.Interval
	// tolerated is the score of memberlist that is no illness yet: it is one
	// packet that somebody else lost.
	tolerated = 1
)

// watchHealth puts up how the agent is: at once when it turns ill, and well
// again when it has been well for stall.Memory.
func (a *Agent) watchHealth(ctx context.Context) error {
	var ill time.Time // when it last was
	due := probe.NextTick(time.Now().Add(healthEvery), a.phase)
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	worst := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		now := time.Now()
		a.stall.Check(due, now)
		due = probe.NextTick(now.Add(healthEvery-probe.Interval/2), a.phase)
		timer.Reset(time.Until(due))
		h := max(a.stall.Health(now), a.gossip.Health()-tolerated, a.isolation())
		switch {
		case h > 0:
			ill, worst = now, max(worst, h)
		case now.Sub(ill) >= stall.Memory:
			worst = 0
		}
		a.board.SetHealth(worst)
	}
}

// isolation is 1 when there should be peers, and gossip knows of none: what is
// silent then is more likely our own network.
func (a *Agent) isolation() int {
	others := 0
	for _, p := range a.cfg.Cluster.Agents() {
		if p.Node != a.cfg.Node {
			others++
		}
	}
	if others >= 2 && a.gossip.Alive() == 0 {
		return 1
	}
	return 0
}
