package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

const withoutAPI = `
This is an annotation, so it takes the Kubernetes API, and exempts one Presence or
one pod. To stop everything at once, and while the Kubernetes API is down, use
"rollcall pause --etcd ENDPOINTS", which writes to etcd itself.`

func (p *plugin) pauseCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "pause PRESENCE | pause pod/NAME",
		Short: "Exempt a Presence or one server from every action",
		Long: `Set the annotation rollcall.dev/paused on a Presence or on one server's pod: it is
judged as before, and nothing is done about it. Failovers in progress are cancelled.
` + withoutAPI,
		Example: `  kubectl presence pause servers -n im --why "load test until 04:00"
  kubectl presence pause pod/server-2 -n im`,
		Args: one("Presence or pod"),
		RunE: func(cmd *cobra.Command, args []string) error {
			value := why
			if value == "" {
				value = "true"
			}
			return p.annotate(cmd.Context(), args[0], &value)
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "The reason, kept in the annotation")
	return cmd
}

func (p *plugin) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume PRESENCE | resume pod/NAME",
		Short: "Undo pause",
		Long: `Remove the annotation rollcall.dev/paused from a Presence or from one server's pod.
` + withoutAPI + `
That is undone with "rollcall resume".`,
		Example: `  kubectl presence resume servers -n im`,
		Args:    one("Presence or pod"),
		RunE:    func(cmd *cobra.Command, args []string) error { return p.annotate(cmd.Context(), args[0], nil) },
	}
}

// annotate sets the annotation, or removes it (nil), and says what was before.
func (p *plugin) annotate(ctx context.Context, arg string, value *string) error {
	kind, name, ok := strings.Cut(arg, "/")
	if !ok {
		kind, name = "presence", arg
	}
	c, err := p.connect()
	if err != nil {
		return err
	}
	var object client.Object
	switch kind {
	case "presence", "presences", "prs":
		kind, object = "presence", &v1alpha1.Presence{}
	case "pod", "pods", "po":
		kind, object = "pod", &corev1.Pod{}
	}
	if object == nil || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("%q is neither a Presence nor a pod: write its name, or pod/NAME, and the namespace with -n", arg)
	}
	key := client.ObjectKey{Namespace: c.namespace, Name: name}
	called := kind + "/" + name
	if err := c.Get(ctx, key, object); apierrors.IsNotFound(err) && named(err) {
		return fail("there is no %s %s in namespace %s: choose the namespace with -n, and see kubectl get presences,pods -n %s", kind, name, c.namespace, c.namespace)
	} else if err != nil {
		return p.stoppable(c, "reading "+called, err)
	}
	was, paused := object.GetAnnotations()[v1alpha1.PausedAnnotation]
	because := ""
	if was != "" && was != "true" {
		because = " (" + was + ")"
	}
	switch {
	case paused && value != nil:
		fmt.Fprintf(p.out, "%s was paused already%s, and stays so\n", called, because)
		return nil
	case !paused && value == nil:
		fmt.Fprintf(p.out, "%s was not paused\n", called)
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{v1alpha1.PausedAnnotation: value},
	}})
	if err != nil {
		return failure{err}
	}
	if err := c.Patch(ctx, object, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return p.stoppable(c, "annotating "+called, err)
	}
	if value == nil {
		fmt.Fprintf(p.out, "%s resumed; it had been paused%s\n", called, because)
		return nil
	}
	fmt.Fprintf(p.out, "%s paused: nothing is done about it until kubectl presence resume %s -n %s\n", called, strings.TrimPrefix(called, "presence/"), c.namespace)
	p.consequences(ctx, c, object)
	return nil
}

// stoppable adds to an API that is away what stops everything without it.
func (p *plugin) stoppable(c *cluster, doing string, err error) error {
	err = c.sentence(doing, err)
	if errors.As(err, new(away)) {
		return fail("%w; rollcall pause --etcd ENDPOINTS stops everything without it", err)
	}
	return err
}

// consequences tells on stderr what else a pause means.
func (p *plugin) consequences(ctx context.Context, c *cluster, object client.Object) {
	presence, ok := object.(*v1alpha1.Presence)
	if ok && presence.Spec.Servers == nil {
		fmt.Fprintf(p.err, "note: Presence %s is not one of servers, so that nobody is moved on its account anyway\n", presence.Name)
		return
	}
	var all v1alpha1.FailoverList
	if err := c.List(ctx, &all, client.InNamespace(object.GetNamespace())); err != nil {
		fmt.Fprintf(p.err, "note: Failovers in progress are cancelled, and could not be listed: %v\n", c.sentence("listing", err))
		return
	}
	for i := range all.Items {
		fo := &all.Items[i]
		if mine := ok && fo.Spec.Presence == object.GetName() || !ok && fo.Spec.Server == object.GetName(); mine && open(fo) {
			fmt.Fprintf(p.err, "note: Failover %s is in progress, and is cancelled by this\n", fo.Name)
		}
	}
}
