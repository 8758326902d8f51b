package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// eyes watch what Rollcall writes, in etcd and in the Kubernetes API, and tell
// it as it happens.
type eyes struct {
	w *world

	mu      sync.Mutex
	verdict time.Time // when `kubectl get presence` first said so
	mend    time.Time
	gone    map[string]struct{} // clients that were ever declared Offline
	writes  []write             // the victim's, after the mend
}

// write is one record put by the victim.
type write struct {
	client string
	at     time.Time
}

func (w *world) watch(ctx context.Context) *eyes {
	e := &eyes{w: w, gone: map[string]struct{}{}}
	go e.observations(ctx)
	go e.sessions(ctx)
	go e.presence(ctx)
	go e.failovers(ctx)
	go e.pods(ctx)
	return e
}

func (e *eyes) verdictAt() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.verdict
}

func (e *eyes) mended(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mend = at
}

func (e *eyes) offline() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.gone)
}

// staleWrites counts what the victim wrote for clients that had not come back.
func (e *eyes) staleWrites(clients *clientsView) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, w := range e.writes {
		if !clients.came(w.client, w.at) {
			n++
		}
	}
	return n
}

// observations tells what the agents say of the victim.
func (e *eyes) observations(ctx context.Context) {
	said := map[string]wire.Band{}
	for update := range e.w.Store.WatchObservations(ctx) {
		for key, o := range update.Put {
			if key.Server != namespace+"/"+serverName(victim) || said[key.Observer] == o.Band {
				continue
			}
			first := said[key.Observer] == ""
			said[key.Observer] = o.Band
			if !update.Reset && (!first || o.Band != wire.BandOK) {
				e.w.line.say(time.Now(), "observed", "%s (%s): %s; %s", key.Observer, o.Zone, o.Band, o.Detail)
			}
		}
	}
}

// sessions looks for clients declared Offline, and for writes by the victim.
func (e *eyes) sessions(ctx context.Context) {
	events, err := e.w.Store.WatchSessions(ctx, 0)
	if err != nil {
		return
	}
	for event := range events {
		for _, change := range event.Changes {
			if change.Key.Namespace != appNamespace || change.Session == nil {
				continue
			}
			e.session(change)
		}
	}
}

func (e *eyes) session(change store.KeyedSession) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if change.Session.Offline {
		e.gone[change.Key.Client] = struct{}{}
	}
	if !e.mend.IsZero() && change.Session.Server == namespace+"/"+serverName(victim) {
		e.writes = append(e.writes, write{change.Key.Client, time.Now()})
	}
}

// presence tells each new state of the servers' Presence.
func (e *eyes) presence(ctx context.Context) {
	last := ""
	follow(ctx, e.w.API, &v1alpha1.PresenceList{}, func(p *v1alpha1.Presence) {
		if p.Spec.Servers == nil {
			return
		}
		c := p.Status.Counts
		overloaded := int32(0)
		if c.Overloaded != nil {
			overloaded = *c.Overloaded
		}
		now := fmt.Sprintf("%d alive, %d suspect, %d overloaded, %d dead", c.Alive, c.Suspect, overloaded, c.Dead)
		if now == last {
			return
		}
		at := time.Now()
		e.mu.Lock()
		if overloaded+c.Dead > 0 && e.verdict.IsZero() {
			e.verdict = at
		}
		e.mu.Unlock()
		if last != "" {
			message := ""
			if len(p.Status.NotAlive) > 0 {
				message = ": " + p.Status.NotAlive[0].Message
			}
			e.w.line.say(at, "decided", "presence/%s: %s%s", p.Name, now, message)
		}
		last = now
	})
}

// failovers tells each Failover as it is made, and as it ends.
func (e *eyes) failovers(ctx context.Context) {
	states := map[string]string{}
	follow(ctx, e.w.API, &v1alpha1.FailoverList{}, func(f *v1alpha1.Failover) {
		state := "made"
		for _, c := range f.Status.Conditions {
			if c.Type == v1alpha1.ConditionProcessing {
				state = c.Reason
			}
		}
		if states[f.Name] == state {
			return
		}
		states[f.Name] = state
		switch state {
		case "made":
			var targets []string
			for _, t := range f.Spec.Targets {
				targets = append(targets, t.Server)
			}
			slices.Sort(targets)
			e.w.line.say(time.Now(), "decided", "failover/%s (%s): %s → %s", f.Name, f.Spec.Reason, f.Spec.Server, strings.Join(targets, ", "))
		case v1alpha1.ReasonPending, v1alpha1.ReasonMoving:
			e.w.line.say(time.Now(), "done", "failover/%s: %s", f.Name, state)
		default:
			e.w.line.say(time.Now(), "done", "failover/%s: %s; %d moved (%d told, %d by themselves, %d otherwise), %d pending, %d lost", f.Name, state,
				f.Status.Moved, f.Status.MovedBy.Directive, f.Status.MovedBy.OwnTimeout, f.Status.MovedBy.Severed, f.Status.Pending, f.Status.Lost)
		}
	})
}

// pods tells when the Service would stop or begin to lead to the victim.
func (e *eyes) pods(ctx context.Context) {
	accepting := "true"
	follow(ctx, e.w.API, &corev1.PodList{}, func(p *corev1.Pod) {
		now := p.Labels[v1alpha1.AcceptingLabel]
		if p.Name != serverName(victim) || now == accepting {
			return
		}
		accepting = now
		e.w.line.say(time.Now(), "done", "pod/%s: %s=%s", p.Name, v1alpha1.AcceptingLabel, now)
	})
}

// follow calls seen with every object of the installation's namespace, as it is
// and whenever it changes, until ctx ends.
func follow[T client.Object, L client.ObjectList](ctx context.Context, api client.WithWatch, list L, seen func(T)) {
	for ctx.Err() == nil {
		w, err := api.Watch(ctx, list, client.InNamespace(namespace))
		if err != nil {
			_ = sleep(ctx, time.Second)
			continue
		}
		for event := range w.ResultChan() {
			if object, ok := event.Object.(T); ok && event.Type != watch.Deleted {
				seen(object)
			}
		}
	}
}
