package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/heap"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server"
	"github.com/rollcall-dev/rollcall/server/access"
)

func serverCommand() *cobra.Command {
	var o struct {
		common
		etcdOptions
		kubeOptions
		accessOptions
		tlsServerOptions
		installationOptions
		listenerOptions
		doorOptions
		peers                      witnessOptions
		name, podUID, zone, node   string
		listen, advertise          string
		webSocket, webSocketTLS    string
		udp, udpAdvertise          string
		capacity, loops, gcPercent int
		memoryLimit                int64
		connectRate, drainRate     float64
		drainFor                   time.Duration
		faults                     bool
	}
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a heartbeat server: clients and agents keep a connection to one of them",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c checks
			o.common.check(&c)
			o.etcdOptions.check(&c)
			c.needed("name", o.name)
			o.installationOptions.check(&c)
			o.tlsServerOptions.check(&c)
			o.accessOptions.check(&c, o.tlsServerOptions.ca != "")
			listeners := map[server.Listener]string{
				server.ListenerPlain: o.listen, server.ListenerTLS: o.tlsServerOptions.listen, server.ListenerBalanced: o.balanced,
				server.ListenerWebSocket: o.webSocket, server.ListenerWebSocketTLS: o.webSocketTLS,
				server.ListenerBeats: o.beats, server.ListenerBeatsTLS: o.beatsTLS,
			}
			o.listenerOptions.check(&c, listeners)
			o.doorOptions.check(&c, listeners)
			if o.listen != "" {
				c.address("listen", o.listen, true)
			} else if o.tlsServerOptions.listen == "" {
				c.fail("listen", "or --tls-listen is needed")
			}
			c.address("advertise", o.advertise, false)
			if o.webSocket != "" {
				c.address("websocket-listen", o.webSocket, true)
			}
			if o.webSocketTLS != "" {
				c.address("websocket-tls-listen", o.webSocketTLS, true)
			}
			if o.webSocketTLS != "" && o.tlsServerOptions.listen == "" {
				c.fail("websocket-tls-listen", "needs --tls-listen, whose certificate it shows")
			}
			if o.udp != "" {
				c.address("udp-listen", o.udp, true)
				if o.tlsServerOptions.listen == "" {
					c.fail("udp-listen", "needs --tls-listen: over TLS alone clients are given keys for it")
				}
			}
			if o.udpAdvertise != "" {
				c.address("udp-advertise", o.udpAdvertise, false)
				if o.udp == "" {
					c.fail("udp-advertise", "needs --udp-listen")
				}
			}
			if o.capacity < 1 {
				c.fail("capacity", "%d must be at least 1", o.capacity)
			}
			if o.connectRate <= 0 {
				c.fail("connect-rate", "%g must be more than 0", o.connectRate)
			}
			if o.drainRate <= 0 {
				c.fail("drain-rate", "%g must be more than 0", o.drainRate)
			}
			if o.drainFor < 0 {
				c.fail("drain-for", "%v must not be negative", o.drainFor)
			}
			if o.gcPercent < 0 {
				c.fail("gc-percent", "%d must not be negative", o.gcPercent)
			}
			if o.memoryLimit < 0 {
				c.fail("memory-limit", "%d must not be negative", o.memoryLimit)
			}
			o.peers.node, o.peers.zone = o.node, o.zone
			o.peers.check(&c)
			if err := c.err(); err != nil {
				return err
			}
			authenticator, err := o.others()
			if err != nil {
				return fmt.Errorf("--tokens: %w", err)
			}
			config, err := o.rest()
			if err != nil {
				return err
			}
			log, metrics := o.logger(), registry()
			secure, err := o.tlsServerOptions.config(log)
			if err != nil {
				return err
			}
			rbac, err := o.access(o.tlsServerOptions.ca != "", access.Config{
				Kubernetes: config, Namespace: o.namespace, Others: authenticator, Logger: log, Registerer: metrics,
			})
			if err != nil {
				return err
			}
			if rbac != nil {
				authenticator = rbac
			}
			return runPart(cmd.Context(), func(ctx context.Context, group *errgroup.Group) error {
				web := o.serveHTTP(ctx, group, metrics)
				records, err := o.open(ctx, log, metrics)
				if err != nil {
					return err
				}
				if err := o.claim(ctx, records); err != nil {
					return err
				}
				presences, err := server.NewPresences(config, o.installation(), log)
				if err != nil {
					return err
				}
				var faults *server.Faults
				if o.faults {
					faults = server.NewFaults()
				}
				observer, err := o.peers.witness(records, store.ServerObserver(o.namespace+"/"+o.name), o.namespace, log, metrics)
				if err != nil {
					return err
				}
				observes := int64(0)
				if observer != nil {
					observes = observer.StandIn().Boot
					group.Go(func() error { return observer.Run(ctx) })
				}
				s, err := server.New(server.Config{
					Name: o.name, Namespace: o.namespace, Incarnation: incarnation(o.podUID), Zone: o.zone, Node: o.node,
					Listen: o.listen, ListenTLS: o.tlsServerOptions.listen, TLS: secure, ListenWebSocket: o.webSocket, ListenWebSocketTLS: o.webSocketTLS, ListenUDP: o.udp, AdvertiseUDP: o.udpAdvertise, Loops: o.loops, Advertise: o.advertise, Capacity: o.capacity, ConnectRate: o.connectRate,
					DrainFor: o.drainFor, DrainRate: o.drainRate,
					ListenBalanced: o.balanced, ListenBeats: o.beats, ListenBeatsTLS: o.beatsTLS, AdvertiseBeats: o.beatsAdvertised, WebSocketPing: o.webSocketPing,
					Doors: o.doors(o.balanced != ""), ConnectionsPerAddress: o.perAddress, MaxConnections: o.connections, SessionsPerPresence: o.perPresence,
					Store: records, Presences: presences, Authenticator: authenticator, Observes: observes,
					Faults: faults, Logger: log, Registerer: metrics,
				})
				if err != nil {
					return err
				}
				group.Go(func() error { return heap.Keep(ctx, heap.Config{Percent: o.gcPercent, Limit: o.memoryLimit}) })
				group.Go(func() error { return presences.Run(ctx) })
				ready := s.Ready
				if rbac != nil {
					group.Go(func() error { return rbac.Run(ctx) })
					ready = func() error { return cmp.Or(s.Ready(), rbac.Ready()) }
				}
				group.Go(func() error { return s.Run(ctx) })
				web.Handle("GET /sessions", s.SessionsHandler())
				faultRoutes(web.ServeMux, faults)
				web.readyWhen(ready)
				return nil
			})
		},
	}
	f := cmd.Flags()
	o.common.flags(f)
	o.etcdOptions.flags(f)
	o.kubeOptions.flags(f)
	o.accessOptions.flags(f)
	o.tlsServerOptions.flags(f)
	o.listenerOptions.flags(f)
	o.doorOptions.flags(f)
	o.peers.flags(f, "peer-")
	hostname, _ := os.Hostname()
	f.StringVar(&o.name, "name", hostname, "this pod's `name`")
	o.installationOptions.flags(f)
	f.StringVar(&o.podUID, "pod-uid", "", "this pod's `UID`: with the start time it is this process's incarnation")
	f.StringVar(&o.zone, "zone", "", "this node's topology.kubernetes.io/zone")
	f.StringVar(&o.node, "node", "", "this `node`'s name")
	f.StringVar(&o.listen, "listen", ":1883", "`address` for MQTT over plain TCP; empty: none")
	f.StringVar(&o.webSocket, "websocket-listen", "", "`address` for MQTT over WebSocket (subprotocol mqtt), without TLS; empty: none")
	f.StringVar(&o.webSocketTLS, "websocket-tls-listen", "", "`address` for MQTT over WebSocket with TLS; empty: none")
	f.StringVar(&o.udp, "udp-listen", "", "`address` for beats by UDP of clients that have connected over TLS and asked for it; empty: none")
	f.StringVar(&o.udpAdvertise, "udp-advertise", "", "`address` at which clients reach --udp-listen of this very server, host:port; empty: the host of --advertise and that port")
	f.StringVar(&o.advertise, "advertise", "", "`address` at which clients reach this very server, host:port")
	f.IntVar(&o.loops, "loops", 0, "event loops for plain TCP, and as many for TLS, on Linux; 0: one for every two processors, -1: none, but a goroutine for each connection")
	f.IntVar(&o.gcPercent, "gc-percent", 0, "how far the heap may grow over what is live before it is collected, in `percent`; 0: GOGC where it is set, else 100")
	f.Int64Var(&o.memoryLimit, "memory-limit", 0, "beyond so many `bytes` memory is collected harder; 0: GOMEMLIMIT where it is set, else no limit")
	f.IntVar(&o.capacity, "capacity", 100000, "`sessions` that this server is meant to hold")
	f.Float64Var(&o.connectRate, "connect-rate", 2000, "clients admitted per second; beyond it they are given a time to come back")
	f.DurationVar(&o.drainFor, "drain-for", 0, "how `long` a server that is told to end (SIGTERM) may take to have its clients go elsewhere first; 0: they are told all at once")
	f.Float64Var(&o.drainRate, "drain-rate", 500, "how many of them a second; more where they would not all be told in time")
	f.BoolVar(&o.faults, "faults", false, "for demonstrations and tests: let PUT /debug/answer-delay?delay=800ms on --http make every answer late")
	return cmd
}

// incarnation is one life of this process.
func incarnation(podUID string) string {
	if podUID == "" {
		podUID = fmt.Sprintf("pid-%d", os.Getpid())
	}
	return fmt.Sprintf("%s.%d", podUID, time.Now().UnixNano())
}

// faultRoutes lets a demonstration make the server slow.
func faultRoutes(mux *http.ServeMux, faults *server.Faults) {
	if faults == nil {
		return
	}
	mux.HandleFunc("PUT /debug/answer-delay", func(w http.ResponseWriter, r *http.Request) {
		delay, err := time.ParseDuration(r.FormValue("delay"))
		if err != nil || delay < 0 || delay > time.Minute {
			http.Error(w, fmt.Sprintf("delay=%q is not a duration from 0s to 1m", r.FormValue("delay")), http.StatusBadRequest)
			return
		}
		faults.SetAnswerDelay(delay)
		fmt.Fprintf(w, "every answer leaves %s late\n", delay)
	})
}
