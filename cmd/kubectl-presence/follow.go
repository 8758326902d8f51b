package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// follow prints a line whenever a Failover has changed, until its end. It
// reads, rather than watches, so that an API server that comes and goes matters
// as little as it does to the drain itself.
func (p *plugin) follow(ctx context.Context, c *cluster, fo *v1alpha1.Failover) error {
	tick := time.NewTicker(p.look)
	defer tick.Stop()
	v := view{p: p, began: p.now(), heard: p.now()}
	key := client.ObjectKeyFromObject(fo)
	for {
		done, err := v.show(fo)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fail("interrupted: the drain goes on without this command; kubectl delete failover %s -n %s cancels it", key.Name, key.Namespace)
		case <-tick.C:
		}
		var now v1alpha1.Failover
		err = c.Get(ctx, key, &now)
		switch {
		case err == nil && now.UID == fo.UID:
			fo = &now
			v.answered()
		case err == nil || apierrors.IsNotFound(err):
			return fail("Failover %s was deleted, which cancels it", key.Name)
		case ctx.Err() == nil:
			v.away(c.sentence("reading Failover "+key.Name, err))
		}
	}
}

// view is what has been printed of a Failover.
type view struct {
	p     *plugin
	began time.Time
	// heard is when the Failover last changed or a hint was given.
	heard time.Time
	last  []string
	// note is the last that was said on stderr.
	note string
	// table remembers the widths of its columns, and writes into text.
	table interface {
		io.Writer
		Flush() error
	}
	text strings.Builder
}

// show prints a line if something has changed. It is done when the Failover is.
func (v *view) show(fo *v1alpha1.Failover) (done bool, err error) {
	row := failoverRow(fo, v.p.now())[2:7]
	if row[4] == "" {
		row[4] = "Waiting"
	}
	processing := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionProcessing)
	if !slices.Equal(row, v.last) {
		if err := v.line(row); err != nil {
			return false, failure{err}
		}
		v.last, v.heard = row, v.p.now()
		if processing != nil && processing.Reason == v1alpha1.ReasonNoHeadroom {
			v.say(sentence("its clients stay where they are until there is room: " + processing.Message))
		}
	}
	switch {
	case !open(fo) && meta.IsStatusConditionTrue(fo.Status.Conditions, v1alpha1.ConditionSucceeded):
		fmt.Fprintln(v.p.out, sentence(processing.Message))
		fmt.Fprintf(v.p.out, "%s stays out of service until its process restarts, or: kubectl delete failover %s -n %s\n", fo.Spec.Server, fo.Name, fo.Namespace)
		return true, nil
	case !open(fo):
		return true, fail("the drain has ended without success (%s): %s", processing.Reason, processing.Message)
	case processing == nil && v.p.now().Sub(v.heard) >= v.p.hint:
		v.say(fmt.Sprintf("no controller has taken it up yet: see whether one runs (kubectl get pods -n %s)", v.p.system))
	}
	return false, nil
}

// line adds one to the table, with the columns of those before it.
func (v *view) line(row []string) error {
	if v.table == nil {
		v.table = printers.GetNewTabWriter(&v.text)
		fmt.Fprintln(v.table, strings.Join([]string{"TO", "MOVED", "PENDING", "LOST", "STATE", "AFTER"}, "\t"))
	}
	cells := make([]string, 0, len(row)+1)
	for _, c := range row {
		cells = append(cells, dash(c))
	}
	after := v.p.now().Sub(v.began).Round(100 * time.Millisecond)
	fmt.Fprintln(v.table, strings.Join(append(cells, after.String()), "\t"))
	if err := v.table.Flush(); err != nil {
		return err
	}
	for l := range strings.Lines(v.text.String()) {
		fmt.Fprintln(v.p.out, strings.TrimRight(l, " \n"))
	}
	v.text.Reset()
	return nil
}

// say tells a person something once.
func (v *view) say(note string) {
	if note != v.note {
		fmt.Fprintln(v.p.err, "note: "+note)
		v.note = note
	}
}

const apiAway = "the drain goes on, and this command tries again: "

func (v *view) away(err error) { v.say(apiAway + err.Error()) }

func (v *view) answered() {
	if strings.HasPrefix(v.note, apiAway) {
		v.note = ""
		fmt.Fprintln(v.p.err, "note: the Kubernetes API answers again")
	}
}
