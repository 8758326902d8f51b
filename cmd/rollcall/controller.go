package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/controllers"
)

func controllerCommand() *cobra.Command {
	var o struct {
		common
		etcdOptions
		kubeOptions
		installationOptions
		id string
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
				store, err := o.open(ctx, log, metrics)
				if err != nil {
					return err
				}
				if err := o.claim(ctx, store); err != nil {
					return err
				}
				manager, err := controllers.New(controllers.Config{
					Store: store, RestConfig: config, Namespace: o.namespace, LabelledOnly: !o.defaultInstallation, ID: o.id,
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
	f.StringVar(&o.id, "id", hostname, "this replica's `name` in the election")
	o.installationOptions.flags(f)
	return cmd
}
