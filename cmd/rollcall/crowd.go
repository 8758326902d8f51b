package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/client/crowd"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func crowdCommand() *cobra.Command {
	var o struct {
		common
		tlsClientOptions
		count            int
		prefix, presence string
		servers          []string
		tokenFile        string
		interval         time.Duration
		jitter           float64
		ackTimeout       time.Duration
		misses           int
		startRate        float64
	}
	cmd := &cobra.Command{
		Use:   "crowd",
		Short: "Run many clients in one process, for demonstrations and tests; prints an event a line, in JSON",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c checks
			o.common.check(&c)
			o.tlsClientOptions.check(&c)
			c.addresses("servers", o.servers)
			if _, _, err := wire.ParseUserName(o.presence); err != nil {
				c.fail("presence", "%q is not namespace/name", o.presence)
			}
			if err := c.err(); err != nil {
				return err
			}
			config := crowd.Config{
				Count: o.count, Prefix: o.prefix, Servers: o.servers, Presence: o.presence,
				Interval: o.interval, Jitter: o.jitter, AckTimeout: o.ackTimeout, Misses: o.misses, StartRate: o.startRate,
				Events: os.Stdout,
			}
			if o.tokenFile != "" {
				config.Token = token(o.tokenFile)
			}
			config.Logger = o.logger()
			var err error
			if config.Dialer, err = o.dialer(config.Logger); err != nil {
				return err
			}
			clients, err := crowd.New(config)
			if err != nil {
				return err
			}
			return runPart(cmd.Context(), func(ctx context.Context, group *errgroup.Group) error {
				o.serveHTTP(ctx, group, registry()).readyWhen(func() error { return nil })
				group.Go(func() error { return clients.Run(ctx) })
				return nil
			})
		},
	}
	f := cmd.Flags()
	o.common.flags(f)
	o.tlsClientOptions.flags(f)
	f.IntVar(&o.count, "count", 100, "how many clients")
	f.StringVar(&o.prefix, "prefix", crowd.DefaultPrefix, "their ids are this, a dash and a number")
	f.StringVar(&o.presence, "presence", "", "the Presence that they belong to, `namespace/name`")
	f.StringSliceVar(&o.servers, "servers", nil, "`addresses` of heartbeat servers to find the first one by, host:port, comma separated")
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with their credential; empty: none")
	f.DurationVar(&o.interval, "interval", 5*time.Second, "between two heartbeats of a client")
	f.Float64Var(&o.jitter, "jitter", 0.1, "share by which each interval varies, either way")
	f.DurationVar(&o.ackTimeout, "ack-timeout", time.Second, "how long a client waits for an answer")
	f.IntVar(&o.misses, "misses", 1, "late answers in a row after which a client leaves its server")
	f.Float64Var(&o.startRate, "start-rate", 500, "clients started per second")
	return cmd
}
