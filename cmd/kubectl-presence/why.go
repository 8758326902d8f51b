package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/explain"
)

// finishedShown is how many Failovers that are over are shown beside open ones.
const finishedShown = 3

func (p *plugin) whyCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "why SERVER",
		Short: "Why a server is held to be what it is, and what is done about it",
		Long: `Print the verdict on a server in words, who says what since when, what would
change it, whether the brake holds, and the Failovers about it.

The verdict itself is in the status of the server's Presence. The evidence is
asked of the controllers, through the API server (the right to get pods/proxy in
Rollcall's namespace) or at --controller. Where none can be asked, what the
Kubernetes API alone says is printed.`,
		Example: `  kubectl presence why server-2 -n im
  kubectl presence why im/server-2 -o yaml`,
		Args: one("server"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			r, err := p.why(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if o.format != "" {
				return o.print(p.out, r)
			}
			return r.write(p.out, p.now())
		},
	}
	o.flag(cmd)
	return cmd
}

// report is everything that is known of one server.
type report struct {
	// Server is "namespace/pod", Presence "namespace/name" and Mode its failover mode.
	Server   string `json:"server"`
	Presence string `json:"presence,omitempty"`
	Mode     string `json:"mode,omitempty"`
	// Status is the verdict as the Presence's status has it; absent: not read.
	Status *statusVerdict `json:"status,omitempty"`
	// Frozen is the brake; absent: it doesn't hold, if FrozenKnown.
	Frozen      *explain.Frozen `json:"frozen,omitempty"`
	FrozenKnown bool            `json:"frozenKnown"`
	// Exempt lists what carries the annotation rollcall.dev/paused.
	Exempt []string `json:"exempt,omitempty"`
	// Pod is what the API says of the pod; absent: there is none, or it wasn't read.
	Pod *podState `json:"pod,omitempty"`
	// Judgement is a controller's; absent: Unasked says why.
	Judgement *explain.Judgement `json:"judgement,omitempty"`
	Unasked   string             `json:"unasked,omitempty"`
	// Unread says why the Kubernetes API could not be read; empty: it was.
	Unread    string              `json:"unread,omitempty"`
	Failovers []v1alpha1.Failover `json:"failovers"`
}

type statusVerdict struct {
	State string `json:"state"`
	// Since is zero where the status doesn't say.
	Since   time.Time `json:"since,omitzero"`
	Message string    `json:"message"`
	// Stale says why the status may not be what is the case; empty: it is current.
	Stale string `json:"stale,omitempty"`
}

type podState struct {
	Accepting string `json:"accepting,omitempty"`
	// Gate is the status of its condition rollcall.dev/accepting; absent: it has none.
	Gate        corev1.ConditionStatus `json:"gate,omitempty"`
	Terminating bool                   `json:"terminating,omitempty"`
}

func (p *plugin) why(ctx context.Context, arg string) (*report, error) {
	c, err := p.connect()
	if err != nil {
		return nil, err
	}
	key, err := c.server(p, arg)
	if err != nil {
		return nil, err
	}
	r := &report{Server: key.String()}
	unread := p.read(ctx, c, key, r)
	if unread != nil {
		r.Unread = unread.Error()
		if p.controller == "" {
			return nil, fmt.Errorf("%w; a controller can be asked without it: give its address with --controller", unread)
		}
	} else if r.Presence == "" {
		return nil, p.nobodysServer(ctx, c, key, r.Pod != nil)
	}
	j, err := p.judgement(ctx, c, key)
	if err != nil {
		if unread != nil {
			return nil, fail("neither the Kubernetes API nor a controller can be asked: %s; %w", unread, err)
		}
		r.Unasked = err.Error()
		return r, nil
	}
	r.Judgement, r.Presence, r.Mode, r.Frozen, r.FrozenKnown = j, j.Presence, j.Mode, j.Frozen, true
	return r, nil
}

// read fills in what the Kubernetes API says.
func (p *plugin) read(ctx context.Context, c *cluster, key client.ObjectKey, r *report) error {
	all, err := c.populations(ctx, key.Namespace)
	if err != nil {
		return err
	}
	var pod corev1.Pod
	switch err := c.Get(ctx, key, &pod); {
	case err == nil:
		r.Pod = &podState{Accepting: pod.Labels[v1alpha1.AcceptingLabel], Gate: v1alpha1.GateOf(&pod), Terminating: pod.DeletionTimestamp != nil}
		if _, ok := pod.Annotations[v1alpha1.PausedAnnotation]; ok {
			r.Exempt = append(r.Exempt, "pod/"+pod.Name)
		}
	case !apierrors.IsNotFound(err):
		return c.sentence("reading pod "+pod.Name, err)
	}
	if r.Failovers, err = c.failovers(ctx, key); err != nil {
		return err
	}
	r.Failovers = slices.Clip(recent(r.Failovers))

	var of *v1alpha1.Presence
	if r.Pod != nil {
		of = responsible(all, &pod)
	}
	for i := range all { // a pod that is gone may still be spoken of
		if of == nil && member(&all[i], key.Name) != nil {
			of = &all[i]
		}
	}
	if of == nil {
		return nil
	}
	p.turnTo(of)
	r.Presence, r.Mode = of.Namespace+"/"+of.Name, string(of.Spec.Servers.Failover.Mode)
	r.Status = statusOf(of, key.Name)
	if _, ok := of.Annotations[v1alpha1.PausedAnnotation]; ok {
		r.Exempt = append(r.Exempt, "presence/"+of.Name)
	}
	f := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionFrozen)
	r.FrozenKnown = f != nil
	if f != nil && f.Status == metav1.ConditionTrue {
		r.Frozen = &explain.Frozen{Reason: f.Reason, Message: f.Message, Since: f.LastTransitionTime.Time}
	}
	return nil
}

// recent keeps what is open and the newest that are over; the list is newest first.
func recent(all []v1alpha1.Failover) []v1alpha1.Failover {
	over := 0
	return slices.DeleteFunc(all, func(fo v1alpha1.Failover) bool {
		if open(&fo) {
			return false
		}
		over++
		return over > finishedShown
	})
}

func member(of *v1alpha1.Presence, pod string) *v1alpha1.MemberStatus {
	for i := range of.Status.NotAlive {
		if of.Status.NotAlive[i].Name == pod {
			return &of.Status.NotAlive[i]
		}
	}
	return nil
}

// statusOf is what the status of a Presence says of one server.
func statusOf(of *v1alpha1.Presence, pod string) *statusVerdict {
	s := statusVerdict{State: "Alive", Message: "It is not among the servers that the status lists as not alive"}
	conditions := of.Status.Conditions
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	refused := meta.FindStatusCondition(conditions, v1alpha1.ConditionAccepted)
	if m := member(of, pod); m != nil {
		s.State, s.Since, s.Message = m.State, m.Since.Time, m.Message
	} else if len(of.Status.NotAlive) >= v1alpha1.MaxNotAlive {
		s.State, s.Message = "Unknown", fmt.Sprintf("The status lists %d servers that are not alive, which is all it can, and this is not among them", len(of.Status.NotAlive))
	}
	switch {
	case refused != nil && refused.Status == metav1.ConditionFalse:
		s = statusVerdict{State: "Unknown", Message: "Its Presence is not in force (" + refused.Reason + "): " + refused.Message}
	case ready == nil:
		s = statusVerdict{State: "Unknown", Message: "No controller has written a status of Presence " + of.Name + " yet: see whether one runs"}
	case ready.Status != metav1.ConditionTrue:
		s.Stale = "The controller can't judge at the moment (" + ready.Reason + "), and this is the last that was known: " + ready.Message
	}
	return &s
}

// nobodysServer is the refusal of a server that no Presence knows.
func (p *plugin) nobodysServer(ctx context.Context, c *cluster, key client.ObjectKey, exists bool) error {
	all, err := c.populations(ctx, key.Namespace)
	if err != nil {
		return err
	}
	if exists {
		return fail("no Presence in namespace %s selects pod %s, so that nothing is known of it: %s", key.Namespace, key.Name, c.candidates(ctx, key.Namespace, all))
	}
	return fail("there is no pod %s in namespace %s: %s", key.Name, key.Namespace, c.candidates(ctx, key.Namespace, all))
}
