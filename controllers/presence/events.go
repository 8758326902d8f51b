package presence

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// report says in Events, and in the audit log, which servers' verdicts have
// changed since the last result that was announced.
func (r *Reconciler) report(p *judge.Population, result *judge.Result) {
	if p.Subject != v1alpha1.SubjectServers || r.told == nil || !result.World.Warm {
		return
	}
	before := r.told.Of(p.Presence.Namespace, p.Presence.Name)
	if before == nil {
		return
	}
	for name, v := range p.Judgement.Verdicts {
		was, known := before.Judgement.Verdicts[name]
		if !known || was.State == v.State {
			continue
		}
		r.Logger.Info("Verdict changed", "presence", p.Presence.Namespace+"/"+p.Presence.Name, "server", name,
			"from", string(was.State), "to", string(v.State), "reason", v.Reason, "evidence", v.Message)
		pod, ok := result.Pod(name)
		if !ok {
			continue
		}
		about := object(p, pod)
		switch {
		case v.State == verdict.Overloaded:
			serverOverloaded(r.Recorder, p.Presence, about, v)
		case v.State == verdict.Dead:
			serverDead(r.Recorder, p.Presence, about, v)
		case v.State == verdict.Alive && was.State.Bad():
			serverRecovered(r.Recorder, p.Presence, about, v)
		}
	}
}

func object(p *judge.Population, pod judge.Pod) *corev1.Pod {
	o := &corev1.Pod{}
	o.Namespace, o.Name, o.UID = p.Presence.Namespace, pod.Name[len(p.Presence.Namespace)+1:], pod.UID
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return o
}

// note is the longest text that an Event holds, in bytes, less what is added to it.
const note = 900

func words(v verdict.Verdict) string {
	if len(v.Message) > note {
		return strings.ToValidUTF8(v.Message[:note], "")
	}
	return v.Message
}

// serverOverloaded says that a server is TCP-alive and does not answer in time.
func serverOverloaded(r events.EventRecorder, p *v1alpha1.Presence, pod *corev1.Pod, v verdict.Verdict) {
	r.Eventf(p, pod, corev1.EventTypeWarning, "ServerOverloaded", "Judge", "%s is overloaded: %s", pod.Name, words(v))
}

// serverDead says that a server or its machine is gone.
func serverDead(r events.EventRecorder, p *v1alpha1.Presence, pod *corev1.Pod, v verdict.Verdict) {
	r.Eventf(p, pod, corev1.EventTypeWarning, "ServerDead", "Judge", "%s is dead: %s", pod.Name, words(v))
}

// serverRecovered says that a server answers again, and has for long enough.
func serverRecovered(r events.EventRecorder, p *v1alpha1.Presence, pod *corev1.Pod, v verdict.Verdict) {
	r.Eventf(p, pod, corev1.EventTypeNormal, "ServerRecovered", "Judge", "%s answers again: %s", pod.Name, words(v))
}
