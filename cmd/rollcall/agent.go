package main

import (
	"context"
	"net"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/agent"
)

func agentCommand() *cobra.Command {
	var o struct {
		common
		kubeOptions
		tlsClientOptions
		installationOptions
		node, zone, presence        string
		servers                     []string
		tokenFile                   string
		gossipBind, gossipAdvertise string
		gossipKeyFile               string
		kubeletPort                 int
	}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a node agent: gossips with the others, probes servers, reports",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c checks
			o.common.check(&c)
			o.tlsClientOptions.check(&c)
			c.needed("node", o.node)
			o.installationOptions.check(&c)
			c.needed("token-file", o.tokenFile)
			c.addresses("servers", o.servers)
			c.address("gossip-bind", o.gossipBind, false)
			if o.gossipAdvertise != "" {
				c.address("gossip-advertise", o.gossipAdvertise, false)
			}
			if o.kubeletPort < 1 || o.kubeletPort > 65535 {
				c.fail("kubelet-port", "%d is not from 1 to 65535", o.kubeletPort)
			}
			if err := c.err(); err != nil {
				return err
			}
			gossip := agent.GossipConfig{}
			gossip.BindAddr, gossip.BindPort = splitAddress(o.gossipBind)
			if o.gossipAdvertise != "" {
				gossip.AdvertiseAddr, gossip.AdvertisePort = splitAddress(o.gossipAdvertise)
			}
			keys, err := readGossipKeys(o.gossipKeyFile)
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				gossip.Key, gossip.OlderKeys = keys[0], keys[1:]
			}
			if o.presence == "" {
				o.presence = o.namespace + "/nodes"
			}
			config, err := o.rest()
			if err != nil {
				return err
			}
			log, metrics := o.logger(), registry()
			secure, err := o.tlsClientOptions.config(log)
			if err != nil {
				return err
			}
			oneProcessor()
			return runPart(cmd.Context(), func(ctx context.Context, group *errgroup.Group) error {
				web := o.serveHTTP(ctx, group, metrics)
				cluster, err := agent.NewCluster(config, o.installation(), log)
				if err != nil {
					return err
				}
				a, err := agent.New(agent.Config{
					Node: o.node, Zone: o.zone, Cluster: cluster, Servers: o.servers, Presence: o.presence,
					Token: token(o.tokenFile), TLS: secure, Gossip: gossip, KubeletPort: o.kubeletPort, Secret: cluster.Secret,
					Logger: log, Registerer: metrics,
				})
				if err != nil {
					return err
				}
				group.Go(func() error { return cluster.Run(ctx) })
				group.Go(func() error { return a.Run(ctx) })
				group.Go(func() error { return releasePages(ctx, log) })
				if o.gossipKeyFile != "" {
					group.Go(func() error { return followGossipKeys(ctx, o.gossipKeyFile, gossipKeysEvery, a.SetGossipKeys, log) })
				}
				web.readyWhen(a.Ready)
				return nil
			})
		},
	}
	f := cmd.Flags()
	o.common.flags(f)
	o.kubeOptions.flags(f)
	o.tlsClientOptions.flags(f)
	f.StringVar(&o.node, "node", "", "this `node`'s name")
	f.StringVar(&o.zone, "zone", "", "this node's topology.kubernetes.io/zone")
	o.installationOptions.flags(f)
	f.StringVar(&o.presence, "presence", "", "the nodes Presence, namespace/name; empty: nodes in --namespace")
	f.StringSliceVar(&o.servers, "servers", nil, "`addresses` of heartbeat servers to find the first one by, host:port, comma separated")
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with this agent's credential, read anew at each connection")
	f.StringVar(&o.gossipBind, "gossip-bind", "0.0.0.0:7946", "`address` for gossip, TCP and UDP")
	f.StringVar(&o.gossipAdvertise, "gossip-advertise", "", "`address` at which other agents reach it; empty: --gossip-bind, or a private address of this machine")
	f.StringVar(&o.gossipKeyFile, "gossip-key-file", "", "`file` with the keys of the gossip, a line each, of 16, 24 or 32 bytes in base64: the first encrypts, all are understood, and it is read again when it changes; empty: not encrypted")
	f.IntVar(&o.kubeletPort, "kubelet-port", 10250, "port tried on a silent node, to tell a dead machine from a dead agent")
	return cmd
}

// splitAddress has been checked before.
func splitAddress(address string) (host string, port int) {
	host, text, _ := net.SplitHostPort(address)
	port, _ = strconv.Atoi(text)
	return host, port
}
