package verdict_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/verdict/scenario"
)

func (b *bench) applyWorld(now time.Time, what string) error {
	switch what {
	case "cold", "warm":
		b.world.Warm = what == "warm"
	case "paused", "resumed":
		b.world.Paused = what == "paused"
	case "storeAway":
		b.awaySince = now
	case "storeBack":
		if now.Sub(b.awaySince) >= verdict.StoreAwayLimit {
			b.world.StoreBack = now
		}
		b.awaySince = time.Time{}
	default:
		return fmt.Errorf("unknown world %q", what)
	}
	return nil
}

func (b *bench) applyObserver(l scenario.Line, now time.Time) error {
	s := b.who[l.Subject]
	if s == nil {
		s = &[2]bool{true, true}
		b.who[l.Subject] = s
	}
	return each(l, func(a scenario.Arg) error {
		switch a.Key {
		case "offline", "online":
			s[0] = a.Key == "online"
		case "unwell", "well":
			s[1] = a.Key == "well"
		case "restarted":
			b.booted[l.Subject] = now
		default:
			return errUnknown
		}
		return nil
	})
}

func (b *bench) applyServer(l scenario.Line, now time.Time) error {
	e := b.servers[l.Subject]
	if e == nil {
		e = &verdict.ServerEvidence{Name: l.Subject}
		b.servers[l.Subject] = e
	}
	return each(l, func(a scenario.Arg) (err error) {
		switch a.Key {
		case "node":
			e.Node = a.Value
		case "observers":
			e.Assigned = observers(a.Value)
		case "incarnation":
			e.Incarnation = a.Value
		case "registered":
			e.Registered = now
		case "lease":
			e.Lease = verdict.Lease(a.Value)
		case "nodeState":
			e.NodeState = verdict.State(a.Value)
		case "starting":
			e.Starting = a.Value == "true"
		case "terminating":
			e.Terminating = a.Value == "true"
		case "paused":
			e.Paused = a.Value == "true"
		case "leftLate":
			e.LeftLate, err = strconv.Atoi(a.Value)
		case "leftBroken":
			e.LeftBroken, err = strconv.Atoi(a.Value)
		case "sessions":
			e.Sessions, err = strconv.Atoi(a.Value)
		case "queueDelay":
			e.QueueDelay, err = time.ParseDuration(a.Value)
		case "kernel":
			band, detail, _ := strings.Cut(a.Value, ":")
			e.Kernel = verdict.Kernel{Band: band, Seen: now, Healthy: true, Online: true, Detail: strings.ReplaceAll(detail, "_", " ")}
		case "strain":
			kind, detail, _ := strings.Cut(a.Value, ":")
			e.Kernel.Healthy, e.Kernel.Online = true, true
			e.Kernel.Strain, e.Kernel.StrainDetail = kind, strings.ReplaceAll(detail, "_", " ")
		case "kernelOffline":
			e.Kernel.Online = a.Value != "true"
		case "kernelHealthy":
			e.Kernel.Healthy = a.Value == "true"
		case "kernelBooted":
			e.Kernel.Booted = now
		case "deleted":
			delete(b.servers, l.Subject)
		default:
			return errUnknown
		}
		return err
	})
}

func (b *bench) applyNode(l scenario.Line) error {
	e := b.nodes[l.Subject]
	if e == nil {
		e = &verdict.NodeEvidence{Name: l.Subject}
		b.nodes[l.Subject] = e
	}
	return each(l, func(a scenario.Arg) error {
		switch a.Key {
		case "reporters":
			e.Reporters = observers(a.Value)
		case "goodbye":
			e.Goodbye = a.Value == "true"
		case "deleted":
			e.Deleted = a.Value == "true"
		default:
			return errUnknown
		}
		return nil
	})
}

// applyBeats files one session for each server, in the order of their names.
func (b *bench) applyBeats(l scenario.Line, now time.Time) error {
	e := b.nodes[l.Subject]
	e.Beats = nil
	args := slices.SortedFunc(slices.Values(l.Args), func(x, y scenario.Arg) int { return strings.Compare(x.Key, y.Key) })
	for _, a := range args {
		word, state, found := strings.Cut(a.Value, "@")
		if !found {
			state = string(verdict.Alive)
		}
		if word != "online" && word != "offline" {
			return errUnknown
		}
		e.Beats = append(e.Beats, verdict.Beats{Online: word == "online", Seen: now, ServerState: verdict.State(state)})
	}
	return nil
}

func (b *bench) applyClient(l scenario.Line, now time.Time) error {
	s := b.sessions[l.Subject]
	if s == nil {
		s = &verdict.Session{LastBeat: now}
		b.sessions[l.Subject] = s
	}
	return each(l, func(a scenario.Arg) (err error) {
		switch a.Key {
		case "interval":
			s.Interval, err = time.ParseDuration(a.Value)
		case "beat":
			s.LastBeat, s.ServerLost = now, time.Time{}
		case "goodbye":
			s.Goodbye = true
		case "serverLost":
			s.ServerLost = now
		case "failover":
			s.Failover = a.Value == "true"
			if !s.Failover {
				s.FailoverEnded = now
			}
		default:
			return errUnknown
		}
		return err
	})
}
