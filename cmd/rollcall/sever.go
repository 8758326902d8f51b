package main

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/agent/sampler"
	"github.com/rollcall-dev/rollcall/agent/sever"
)

func severCommand() *cobra.Command {
	var o struct {
		common
		kubeOptions
		tlsClientOptions
		installationOptions
		node, zone, netns   string
		cgroups             string
		presence, tokenFile string
		servers             []string
	}
	cmd := &cobra.Command{
		Use:   "sever",
		Short: "Run a node's severer: ends connections of servers that can't tell their clients to go, and reads what their kernel says of them",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c checks
			o.common.check(&c)
			o.tlsClientOptions.check(&c)
			c.needed("node", o.node)
			o.installationOptions.check(&c)
			c.needed("netns", o.netns)
			c.addresses("servers", o.servers)
			if len(o.servers) > 0 {
				c.needed("token-file", o.tokenFile)
			}
			if err := c.err(); err != nil {
				return err
			}
			config, err := o.rest()
			if err != nil {
				return err
			}
			if o.presence == "" {
				o.presence = o.namespace + "/nodes"
			}
			log, metrics := o.logger(), registry()
			secure, err := o.tlsClientOptions.config(log)
			if err != nil {
				return err
			}
			oneProcessor()
			return runPart(cmd.Context(), func(ctx context.Context, group *errgroup.Group) error {
				web := o.serveHTTP(ctx, group, metrics)
				s, err := sever.New(sever.Config{
					RestConfig: config, Node: o.node, Namespace: o.namespace, Namespaces: o.netns, Logger: log, Registerer: metrics,
				})
				if err != nil {
					return err
				}
				group.Go(func() error { return s.Run(ctx) })
				group.Go(func() error { return releasePages(ctx, log) })
				web.readyWhen(s.Ready)
				if len(o.servers) == 0 {
					return nil
				}
				cluster, err := sampler.NewCluster(config, o.installation(), o.node)
				if err != nil {
					return err
				}
				kernel, err := sampler.New(sampler.Config{
					Node: o.node, Zone: o.zone, Cluster: cluster, Namespaces: o.netns, Cgroups: o.cgroups, Presence: o.presence, Servers: o.servers,
					Token: token(o.tokenFile), TLS: secure, Logger: log, Registerer: metrics,
				})
				if err != nil {
					return err
				}
				group.Go(func() error { return cluster.Run(ctx) })
				group.Go(func() error { return kernel.Run(ctx) })
				return nil
			})
		},
	}
	f := cmd.Flags()
	o.common.flags(f)
	o.kubeOptions.flags(f)
	f.StringVar(&o.node, "node", "", "this `node`'s name")
	f.StringVar(&o.zone, "zone", "", "this node's topology.kubernetes.io/zone")
	o.tlsClientOptions.flags(f)
	o.installationOptions.flags(f)
	f.StringVar(&o.presence, "presence", "", "the nodes Presence, namespace/name; empty: nodes in --namespace")
	f.StringSliceVar(&o.servers, "servers", nil, "`addresses` of heartbeat servers, host:port, comma separated, to report to what the kernel says of services' servers on this node; empty: nobody asks it")
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with this part's credential for heartbeat servers, read anew at each connection")
	f.StringVar(&o.cgroups, "cgroups", "", "`directory` in which this node's cgroups are mounted, to report what keeps services' servers from running (a CPU limit, want of processors or memory); empty: nobody looks at them")
	f.StringVar(&o.netns, "netns", "/run/netns", "`directory` in which this node's container runtime binds the network namespaces of pods")
	return cmd
}
