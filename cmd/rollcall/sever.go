package main

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/agent/sever"
)

func severCommand() *cobra.Command {
	var o struct {
		common
		kubeOptions
		node, namespace, netns string
	}
	cmd := &cobra.Command{
		Use:   "sever",
		Short: "Run a node's severer: ends connections of servers that can't tell their clients to go",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c checks
			o.common.check(&c)
			c.needed("node", o.node)
			c.needed("namespace", o.namespace)
			c.needed("netns", o.netns)
			if err := c.err(); err != nil {
				return err
			}
			config, err := o.rest()
			if err != nil {
				return err
			}
			log, metrics := o.logger(), registry()
			return runPart(cmd.Context(), func(ctx context.Context, group *errgroup.Group) error {
				web := o.serveHTTP(ctx, group, metrics)
				s, err := sever.New(sever.Config{
					RestConfig: config, Node: o.node, Namespace: o.namespace, Namespaces: o.netns, Logger: log, Registerer: metrics,
				})
				if err != nil {
					return err
				}
				group.Go(func() error { return s.Run(ctx) })
				web.readyWhen(s.Ready)
				return nil
			})
		},
	}
	f := cmd.Flags()
	o.common.flags(f)
	o.kubeOptions.flags(f)
	f.StringVar(&o.node, "node", "", "this `node`'s name")
	f.StringVar(&o.namespace, "namespace", "", "the installation's `namespace`")
	f.StringVar(&o.netns, "netns", "/run/netns", "`directory` in which this node's container runtime binds the network namespaces of pods")
	return cmd
}
