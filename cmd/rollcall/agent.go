package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

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
			var err error
			if gossip.Key, err = readGossipKey(o.gossipKeyFile); err != nil {
				return err
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
			return runPart(cmd.Context(), func(ctx context.Context, group *errgroup.Group) error {
				web := o.serveHTTP(ctx, group, metrics)
				cluster, err := agent.NewCluster(config, o.installation(), log)
				if err != nil {
					return err
				}
				a, err := agent.New(agent.Config{
					Node: o.node, Zone: o.zone, Cluster: cluster, Servers: o.servers, Presence: o.presence,
					Token: token(o.tokenFile), TLS: secure, Gossip: gossip, KubeletPort: o.kubeletPort,
					Logger: log, Registerer: metrics,
				})
				if err != nil {
					return err
				}
				group.Go(func() error { return cluster.Run(ctx) })
				group.Go(func() error { return a.Run(ctx) })
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
	f.StringVar(&o.gossipKeyFile, "gossip-key-file", "", "`file` with the key of the gossip, 16, 24 or 32 bytes in base64; empty: not encrypted")
	f.IntVar(&o.kubeletPort, "kubelet-port", 10250, "port tried on a silent node, to tell a dead machine from a dead agent")
	return cmd
}

// splitAddress has been checked before.
func splitAddress(address string) (host string, port int) {
	host, text, _ := net.SplitHostPort(address)
	port, _ = strconv.Atoi(text)
	return host, port
}

func readGossipKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--gossip-key-file: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if n := len(key); err != nil || (n != 16 && n != 24 && n != 32) {
		return nil, fmt.Errorf("--gossip-key-file %s does not hold 16, 24 or 32 bytes in base64", path)
	}
	return key, nil
}
