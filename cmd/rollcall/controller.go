package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/controllers"
	"github.com/rollcall-dev/rollcall/internal/store"
)

func controllerCommand() *cobra.Command {
	var o struct {
		common
		etcdOptions
		kubeOptions
		installationOptions
		witnessOptions
		id            string
		gossipOnNodes bool
	}
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run a controller: judges, and moves clients away from servers that don't answer",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c checks
			o.common.check(&c)
			o.etcdOptions.check(&c)
			c.needed("id", o.id)
			o.installationOptions.check(&c)
			o.witnessOptions.check(&c)
			if err := c.err(); err != nil {
				return err
			}
			config, err := o.rest()
			if err != nil {
				return err
			}
			return runPart(cmd.Context(), func(ctx context.Context, group *errgroup.Group) error {
				log, metrics := o.logger(), registry()
				web := o.serveHTTP(ctx, group, metrics)
				records, err := o.open(ctx, log, metrics)
				if err != nil {
					return err
				}
				if err := o.claim(ctx, records); err != nil {
					return err
				}
				observer, err := o.witness(records, store.ControllerObserver(o.id), o.namespace, log, metrics)
				if err != nil {
					return err
				}
				manager, err := controllers.New(controllers.Config{
					Store: records, RestConfig: config, Namespace: o.namespace, LabelledOnly: !o.defaultInstallation, GossipOnNodes: o.gossipOnNodes, ID: o.id, Witness: observer,
					Logger: log, Registerer: metrics,
				})
				if err != nil {
					return err
				}
				group.Go(func() error { return manager.Run(ctx) })
				manager.Handle(web.ServeMux)
				web.readyWhen(manager.Ready)
				return nil
			})
		},
	}
	f := cmd.Flags()
	o.common.flags(f)
	o.etcdOptions.flags(f)
	o.kubeOptions.flags(f)
	hostname, _ := os.Hostname()
	f.BoolVar(&o.gossipOnNodes, "gossip-on-nodes", false, "agents gossip by the nodes' network (hostNetwork) and beat by the pods', so that a verdict can name the network that failed")
	f.StringVar(&o.id, "id", hostname, "this replica's `name` in the election")
	o.installationOptions.flags(f)
	o.witnessOptions.flags(f, "")
	f.StringVar(&o.node, "node", "", "this `node`'s name, where --token-file is given")
	f.StringVar(&o.zone, "zone", "", "this node's topology.kubernetes.io/zone")
	return cmd
}
