package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func (p *plugin) drainCommand() *cobra.Command {
	var o output
	var presence string
	var wait bool
	cmd := &cobra.Command{
		Use:   "drain SERVER",
		Short: "Move all clients of a server to others, and take it out of service",
		Long: `Create a Failover with the reason Drain: the server's clients are told to go to
others, at the pace that those can take. The server stays out of service until its
process restarts or the Failover is deleted; deleting it in the middle cancels it.`,
		Example: `  kubectl presence drain server-2 -n im --wait`,
		Args:    one("server"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if o.format != "" && wait {
				return fmt.Errorf("--wait prints a table: leave out --output %s", o.format)
			}
			return p.drain(cmd.Context(), args[0], presence, wait, o)
		},
	}
	o.flag(cmd)
	cmd.Flags().StringVar(&presence, "presence", "", "The server's Presence, by `name`; empty: the one that selects it")
	cmd.Flags().BoolVar(&wait, "wait", false, "Print the progress until the end; the exit status is 0 if no client is left behind")
	return cmd
}

func (p *plugin) drain(ctx context.Context, arg, presence string, wait bool, o output) error {
	c, err := p.connect()
	if err != nil {
		return err
	}
	key, err := c.server(p, arg)
	if err != nil {
		return err
	}
	of, err := c.drainable(ctx, key, presence)
	if err != nil {
		return err
	}
	p.turnTo(of)
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{GenerateName: key.Name + "-", Namespace: key.Namespace},
		Spec:       v1alpha1.FailoverSpec{Presence: of.Name, Server: key.Name, Reason: v1alpha1.FailoverDrain},
	}
	if name := v1alpha1.InstallationOf(of); name != "" {
		fo.Labels = map[string]string{v1alpha1.InstallationLabel: name} // for when the Presence is gone
	}
	if err := c.Create(ctx, fo); err != nil {
		return c.sentence("creating a Failover in namespace "+key.Namespace, err)
	}
	if o.format != "" {
		fo.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Failover"))
		return o.print(p.out, fo)
	}
	fmt.Fprintf(p.out, "failover.rollcall.dev/%s created\n", fo.Name)
	if !wait {
		return nil
	}
	return p.follow(ctx, c, fo)
}

// drainable is the Presence under which a server can be drained, or one
// sentence on why it can't.
func (c *cluster) drainable(ctx context.Context, key client.ObjectKey, presence string) (*v1alpha1.Presence, error) {
	all, err := c.populations(ctx, key.Namespace)
	if err != nil {
		return nil, err
	}
	var pod corev1.Pod
	if err := c.Get(ctx, key, &pod); apierrors.IsNotFound(err) {
		return nil, fail("there is no pod %s in namespace %s: %s", key.Name, key.Namespace, c.candidates(ctx, key.Namespace, all))
	} else if err != nil {
		return nil, c.sentence("reading pod "+key.Name, err)
	}
	about, err := c.failovers(ctx, key)
	if err != nil {
		return nil, err
	}
	of, why := chosen(all, &pod, presence)
	if why == "" {
		why = obstacle(of, &pod, about)
	}
	if why != "" {
		return nil, fail("pod %s can't be drained: %s", key.Name, why)
	}
	return of, nil
}

// chosen is the Presence of a pod, or why it has none. name is the one that a
// person wants; empty: any.
func chosen(all []v1alpha1.Presence, pod *corev1.Pod, name string) (of *v1alpha1.Presence, why string) {
	of = responsible(all, pod)
	if name != "" && (of == nil || of.Name != name) {
		var named *v1alpha1.Presence
		for i := range all {
			if all[i].Name == name {
				named = &all[i]
			}
		}
		switch {
		case named == nil:
			return nil, fmt.Sprintf("there is no Presence %s of servers in namespace %s: leave out --presence, or see kubectl get presences -n %s", name, pod.Namespace, pod.Namespace)
		case !selects(named, pod):
			return nil, fmt.Sprintf("Presence %s doesn't select it: leave out --presence, or change spec.servers.selector", name)
		}
		return nil, fmt.Sprintf("Presence %s selects it too, and is older: leave out --presence", of.Name)
	}
	if of == nil {
		return nil, fmt.Sprintf("no Presence in namespace %s selects it: make one, or give the pod the labels that spec.servers.selector asks for", pod.Namespace)
	}
	return of, ""
}

// obstacle is why a drain would come to nothing, with the remedy; empty:
// nothing is known against it.
func obstacle(of *v1alpha1.Presence, pod *corev1.Pod, about []v1alpha1.Failover) string {
	if c := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionAccepted); c != nil && c.Status == metav1.ConditionFalse {
		return fmt.Sprintf("its Presence %s is not in force (%s): %s", of.Name, c.Reason, c.Message)
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return "it has ended, and has no clients"
	}
	for i := range about {
		fo := &about[i]
		switch {
		case fo.Spec.Count != nil:
		case open(fo):
			return fmt.Sprintf("Failover %s is moving its clients already: follow it with kubectl get failover %s -n %s -w", fo.Name, fo.Name, fo.Namespace)
		case (pod.Labels[v1alpha1.AcceptingLabel] == "false" || v1alpha1.GateOf(pod) == corev1.ConditionFalse) && fo.Spec.Reason == v1alpha1.FailoverDrain &&
			state(fo) == v1alpha1.ReasonMoved && fo.CreationTimestamp.After(pod.CreationTimestamp.Time):
			return fmt.Sprintf("Failover %s has drained it already: kubectl delete failover %s -n %s lets it in again", fo.Name, fo.Name, fo.Namespace)
		}
	}
	if _, ok := of.Annotations[v1alpha1.PausedAnnotation]; ok {
		return fmt.Sprintf("its Presence is paused: kubectl presence resume %s -n %s ends that", of.Name, of.Namespace)
	}
	if _, ok := pod.Annotations[v1alpha1.PausedAnnotation]; ok {
		return fmt.Sprintf("it is paused: kubectl presence resume pod/%s -n %s ends that", pod.Name, pod.Namespace)
	}
	if c := meta.FindStatusCondition(of.Status.Conditions, v1alpha1.ConditionFrozen); c != nil && c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonPaused {
		return "everything is paused: rollcall resume ends that"
	}
	return ""
}
