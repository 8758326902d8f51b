package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/explain"
)

// indent is what stands before what belongs to a heading.
const indent = "  "

// write prints a report for people: first what is the case, then why, then what
// happens.
func (r *report) write(w io.Writer, now time.Time) error {
	var b strings.Builder
	var err error
	if r.Judgement != nil {
		err = writeJudgement(&b, r.Judgement, now)
	} else {
		writeStatus(&b, r, now)
	}
	if err != nil {
		return failure{err}
	}
	heading(&b, "What is done about it")
	for _, s := range r.doing(now) {
		fmt.Fprintln(&b, indent+s)
	}
	if len(r.Failovers) > 0 {
		heading(&b, "Failovers of its clients")
		rows := [][]string{failoverHeader}
		for i := range r.Failovers {
			rows = append(rows, failoverRow(&r.Failovers[i], now))
		}
		if err := table(&b, indent, rows...); err != nil {
			return failure{err}
		}
	}
	_, err = io.WriteString(w, b.String())
	return failed(err)
}

func heading(b *strings.Builder, s string) { fmt.Fprintf(b, "\n%s:\n", s) }

func lead(b *strings.Builder, server, state, since, message string) {
	fmt.Fprintf(b, "Server %s is %s", server, state)
	if since != "" {
		fmt.Fprintf(b, ", for %s", since)
	}
	fmt.Fprintf(b, ".\n%s\n", sentence(message))
}

// writeStatus prints what is known without a controller.
func writeStatus(b *strings.Builder, r *report, now time.Time) {
	s := r.Status
	lead(b, r.Server, s.State, age(s.Since, now), s.Message)
	if s.Stale != "" {
		fmt.Fprintln(b, sentence(s.Stale))
	}
	heading(b, "Evidence")
	fmt.Fprintln(b, indent+"No controller could be asked who says what, and what would change it: "+sentence(r.Unasked))
	fmt.Fprintln(b, indent+"So this is from the Kubernetes API alone. A status is written when something changes:")
	fmt.Fprintln(b, indent+"if no controller runs, it is as old as the last change.")
}

// writeJudgement prints what a controller holds. Times are counted by its clock.
func writeJudgement(b *strings.Builder, j *explain.Judgement, now time.Time) error {
	lead(b, j.Server, j.State, age(j.Since, j.At), j.Message)
	if !j.Leading {
		fmt.Fprintf(b, "This is what controller %s holds, which does not lead: no controller that leads has answered.\n", j.Controller)
	} else if old := now.Sub(j.At); old > 10*time.Second {
		fmt.Fprintf(b, "Controller %s judged this %s ago: it may be stuck, or the clocks differ.\n", j.Controller, age(j.At, now))
	}

	heading(b, "Evidence")
	e := j.Evidence
	if len(e.Observers) > 0 {
		rows := [][]string{{"OBSERVER", "ZONE", "SAYS", "FOR", "ANSWERS IN", "COUNTS", "DETAIL"}}
		for _, o := range e.Observers {
			counts := "yes"
			if o.Ignored != "" {
				counts = "no: " + o.Ignored
			}
			rows = append(rows, []string{o.Name, dash(o.Zone), dash(o.Says), dash(age(o.Since, j.At)), took(o.Answer.Duration), counts, o.Detail})
		}
		if err := table(b, indent, rows...); err != nil {
			return err
		}
		fmt.Fprintln(b)
	}
	left := fmt.Sprintf("%d left it within seconds because answers were late (counts from %d on)", e.LeftLate, e.LeftLateLimit)
	if e.LeftLate == 0 {
		left = "none left it because answers were late"
	}
	queue := "no word"
	if e.QueueDelay.Duration > 0 {
		queue = fmt.Sprintf("%v late, by its own word (the limit is %v)", e.QueueDelay.Duration, e.AnswerTime.Duration)
	}
	machine := dash(e.Node)
	if e.NodeState != "" {
		machine += ", which is " + e.NodeState
	}
	held := fmt.Sprintf("%d when last seen well", e.Sessions)
	if e.Sessions == 0 {
		held = "not known"
	}
	if err := table(b, indent, [][]string{
		{"its clients", left}, {"its work queue", queue}, {"its record in etcd", e.Record},
		{"its machine", machine}, {"its sessions", held},
	}...); err != nil {
		return err
	}

	if len(j.Changes) > 0 {
		heading(b, "What would change it")
		for _, s := range j.Changes {
			fmt.Fprintln(b, indent+s)
		}
	}
	return nil
}

// doing says in sentences what is done about the server, and what isn't.
func (r *report) doing(now time.Time) []string {
	var l []string
	at := now
	if r.Judgement != nil {
		at = r.Judgement.At
	}
	_, presence, _ := strings.Cut(r.Presence, "/")
	switch f := r.Frozen; {
	case f != nil:
		since := ""
		if s := age(f.Since, at); s != "" {
			since = ", for " + s
		}
		l = append(l, sentence(fmt.Sprintf("The brake holds (%s%s): %s", f.Reason, since, f.Message)))
	case r.FrozenKnown || r.Judgement != nil:
		l = append(l, "The brake doesn't hold.")
	default:
		l = append(l, "Whether the brake holds is not known.")
	}
	switch v1alpha1.FailoverMode(r.Mode) {
	case v1alpha1.ModeAutomatic:
		l = append(l, fmt.Sprintf("Presence %s is Automatic: clients of a server that is Overloaded or Dead are moved.", presence))
	case v1alpha1.ModeAdvise:
		l = append(l, fmt.Sprintf("Presence %s is in mode Advise: what would be done is recorded, and nobody is moved.", presence))
	case v1alpha1.ModeOff:
		l = append(l, fmt.Sprintf("Presence %s is in mode Off: nothing is planned.", presence))
	}
	for _, what := range r.Exempt {
		name := strings.TrimPrefix(what, "presence/")
		l = append(l, fmt.Sprintf("%s is exempt by annotation: kubectl presence resume %s ends that.", what, name))
	}
	if j := r.Judgement; j != nil && j.Exempt != "" && (j.Exempt != "Paused" || len(r.Exempt) == 0) {
		l = append(l, fmt.Sprintf("Nothing is ever done about a server that is %s.", strings.ToLower(j.Exempt)))
	}
	moving := false
	for i := range r.Failovers {
		if fo := &r.Failovers[i]; open(fo) {
			moving = true
			l = append(l, inProgress(fo))
		}
	}
	switch {
	case r.Unread != "":
		l = append(l, "Failovers could not be read: "+sentence(r.Unread))
	case !moving:
		l = append(l, "No Failover is moving its clients.")
	}
	switch {
	case r.Unread != "":
	case r.Pod == nil:
		l = append(l, "Its pod is gone.")
	case r.Pod.Terminating:
		l = append(l, "Its pod is being deleted.")
	case r.Pod.Accepting == "false":
		l = append(l, "It is out of service: its pod's label "+v1alpha1.AcceptingLabel+" is false.")
	case r.Pod.Gate == corev1.ConditionFalse:
		l = append(l, "It is out of service: its pod's condition "+v1alpha1.AcceptingGate+" is False, so that it is not Ready.")
	}
	return l
}

// inProgress words how far an open Failover is.
func inProgress(fo *v1alpha1.Failover) string {
	switch state(fo) {
	case v1alpha1.ReasonMoving:
		return fmt.Sprintf("Failover %s is moving its clients: %d are elsewhere, %d are still expected.", fo.Name, fo.Status.Moved, fo.Status.Pending)
	case v1alpha1.ReasonNoHeadroom:
		return fmt.Sprintf("Failover %s waits: no server has room for its clients, so that they stay where they are.", fo.Name)
	default:
		return fmt.Sprintf("Failover %s has moved nobody yet.", fo.Name)
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// took words an answer time.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}
