package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/adoption"
)

// adoptOptions are the flags of adopt.
type adoptOptions struct {
	adoption.Options
	yes, dryRun bool
	// timeout bounds the wait for one workload.
	timeout time.Duration
}

func (p *plugin) adoptCommand() *cobra.Command {
	var o adoptOptions
	cmd := &cobra.Command{
		Use:   "adopt SERVICE",
		Short: "Have a Service follow the label by which servers are taken out",
		Long: `Give the pods that a Service selects the label ` + v1alpha1.AcceptingLabel + `: "true", then the
templates that they are made from, then have the Service select it: from then on
new clients are led past a server whose label is turned to "false". The endpoints
are never empty on the way. What is to change is shown first.

Pods of a Deployment are not restarted, nor those of a StatefulSet or DaemonSet with
the updateStrategy OnDelete. With RollingUpdate Kubernetes restarts them, which takes
--restart. Where the Presence of the pods has failover.divert: ReadinessGate nothing is
changed, and it is said whether they carry the gate. Being run again it goes on where it
was stopped, and does nothing when everything is done.`,
		Example: `  kubectl presence adopt web -n shop --dry-run
  kubectl presence adopt web -n shop
  kubectl presence adopt web -n shop --undo`,
		Args: one("Service"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.timeout <= 0 {
				return fmt.Errorf("--timeout %s is no time to wait: give a positive one, such as 5m", o.timeout)
			}
			return p.adopt(cmd.Context(), args[0], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Undo, "undo", false, "Take the label away again: from the Service, then the templates, then the pods")
	f.BoolVar(&o.Restart, "restart", false, "Allow the change of templates whose pods Kubernetes restarts then")
	f.BoolVarP(&o.yes, "yes", "y", false, "Don't ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "Print what would change, and change nothing")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "How long to wait for the controller of one workload to see its change, or to restart its pods")
	return cmd
}

func (p *plugin) adopt(ctx context.Context, arg string, o adoptOptions) error {
	kind, name, ok := strings.Cut(arg, "/")
	if !ok {
		kind, name = "service", arg
	}
	if kind != "service" && kind != "services" && kind != "svc" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("%q is no Service: write its name, and the namespace with -n", arg)
	}
	c, err := p.connect()
	if err != nil {
		return err
	}
	plan, err := c.adoption(ctx, name, o.Options)
	if err != nil {
		return err
	}
	for _, n := range plan.Notes {
		fmt.Fprintln(p.err, "note: "+n)
	}
	if len(plan.Steps) == 0 {
		fmt.Fprintf(p.out, "service/%s: there is nothing to do\n", name)
		return nil
	}
	fmt.Fprint(p.out, plan.Diff())
	if o.dryRun {
		return nil
	}
	if !o.yes {
		if err := p.confirm(ctx); err != nil {
			return err
		}
	}
	for i, s := range plan.Steps {
		if err := p.carryOut(ctx, c, name, s, o); err != nil {
			return fail("%w; %s", err, remains(plan, i, o.Undo))
		}
	}
	if o.Undo {
		fmt.Fprintf(p.out, "service/%s doesn't follow %s any more; take the label out of the manifests that it comes from, if it is there\n", name, v1alpha1.AcceptingLabel)
		return nil
	}
	fmt.Fprintf(p.out, "service/%s follows %s; write the label and the selector into the manifests that it comes from, or the next deployment of those takes them back\n", name, v1alpha1.AcceptingLabel)
	return nil
}

// adoption is the plan for the Service as everything is now.
func (c *cluster) adoption(ctx context.Context, name string, o adoption.Options) (adoption.Plan, error) {
	state, err := c.adoptable(ctx, name)
	if err != nil {
		return adoption.Plan{}, err
	}
	plan, err := adoption.New(state, o)
	if err != nil {
		return adoption.Plan{}, fail("%w", err)
	}
	return plan, nil
}

// confirm asks a person.
func (p *plugin) confirm(ctx context.Context) error {
	fmt.Fprint(p.err, "Make these changes? [y/N] ")
	// Reading can't be interrupted; who interrupts ends the process.
	answered := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(p.in).ReadString('\n')
		answered <- line
	}()
	select {
	case <-ctx.Done():
		return fail("interrupted: nothing was changed")
	case line := <-answered:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		return fail("nothing was changed: answer y, or give --yes")
	}
}

// remains words what a failure in a step leaves behind.
func remains(plan adoption.Plan, failed int, undo bool) string {
	paused := ""
	if held := plan.Held(failed); held != "" {
		paused = held + " may be left paused until then; "
	}
	if undo {
		return paused + "what was changed so far stays, and the same command goes on from there"
	}
	return paused + "what was changed so far stays: the same command goes on from there, and with --undo takes it back"
}

// carryOut makes the changes of a step, and waits for what is awaited of them.
func (p *plugin) carryOut(ctx context.Context, c *cluster, name string, s adoption.Step, o adoptOptions) error {
	if s.Last {
		if err := p.settled(ctx); err != nil {
			return err
		}
		left, err := c.adoption(ctx, name, o.Options)
		if err != nil {
			return err
		}
		if err := left.Remaining(); err != nil {
			return fail("service/%s is not changed, for it would lead past them: %w", name, err)
		}
	}
	generations := make([]int64, len(s.Changes))
	for i, change := range s.Changes {
		var err error
		if generations[i], err = p.change(ctx, c, change); err != nil {
			return err
		}
	}
	if s.Await == adoption.Spread {
		return p.settled(ctx)
	}
	for i, change := range s.Changes {
		if err := p.await(ctx, c, change.Object, s.Await, generations[i], o.timeout); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until what was changed last has reached those who keep
// EndpointSlices, of which nothing tells.
func (p *plugin) settled(ctx context.Context) error {
	t := time.NewTimer(p.settle)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fail("interrupted")
	case <-t.C:
		return nil
	}
}

// await waits for an object to show what is awaited of it.
func (p *plugin) await(ctx context.Context, c *cluster, of adoption.Object, a adoption.Await, generation int64, timeout time.Duration) error {
	if a == adoption.Nothing {
		return nil
	}
	limit, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(p.look)
	defer tick.Stop()
	if a == adoption.RolledOut {
		fmt.Fprintf(p.err, "note: waiting until the pods of %s are restarted\n", of)
	}
	for {
		now := &unstructured.Unstructured{}
		now.SetGroupVersionKind(of.Kind)
		err := c.Get(limit, client.ObjectKey{Namespace: c.namespace, Name: of.Name}, now)
		if err == nil && a.Met(now, generation) {
			return nil
		}
		if err = c.sentence("reading "+of.String(), err); err != nil && limit.Err() == nil && !errors.As(err, new(away)) {
			return err
		}
		select {
		case <-ctx.Done():
			return fail("interrupted")
		case <-limit.Done():
			if a == adoption.RolledOut {
				return fail("%s is not rolled out after %s: see kubectl rollout status, or give more --timeout", of, timeout)
			}
			return fail("the controller of %s has not seen its change after %s: see whether kube-controller-manager runs", of, timeout)
		case <-tick.C:
		}
	}
}
