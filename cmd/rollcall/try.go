package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func tryCommand() *cobra.Command {
	var o struct {
		common
		kubeOptions
		tlsClientOptions
		presence, id string
		servers      []string
		tokenFile    string
		timeout      time.Duration
	}
	cmd := &cobra.Command{
		Use:   "try",
		Short: "Connect one client, wait until its Presence counts it, and leave: proves that an installation works",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c checks
			o.common.check(&c)
			o.tlsClientOptions.check(&c)
			c.addresses("servers", o.servers)
			namespace, name, err := wire.ParseUserName(o.presence)
			if err != nil {
				c.fail("presence", "%q is not namespace/name", o.presence)
			}
			if o.timeout <= 0 {
				c.fail("timeout", "%s must be more than 0s", o.timeout)
			}
			if err := c.err(); err != nil {
				return err
			}
			config, err := o.rest()
			if err != nil {
				return err
			}
			scheme := runtime.NewScheme()
			if err := v1alpha1.AddToScheme(scheme); err != nil {
				return err
			}
			log := o.logger()
			t := trial{presence: kube.ObjectKey{Namespace: namespace, Name: name}}
			t.config = client.Config{
				Servers: o.servers, Presence: o.presence, ClientID: o.id, Interval: 2 * time.Second, Logger: log,
			}
			if o.tokenFile != "" {
				t.config.Token = token(o.tokenFile)
			}
			if t.config.Dialer, err = o.dialer(log); err != nil {
				return err
			}
			if err := t.config.Validate(); err != nil {
				return err
			}
			return runPart(cmd.Context(), func(ctx context.Context, _ *errgroup.Group) error {
				if t.api, err = kube.New(config, kube.Options{Scheme: scheme}); err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(ctx, o.timeout)
				defer cancel()
				return t.run(ctx, o.timeout)
			})
		},
	}
	f := cmd.Flags()
	o.common.flags(f)
	o.kubeOptions.flags(f)
	o.tlsClientOptions.flags(f)
	hostname, _ := os.Hostname()
	f.StringVar(&o.presence, "presence", "", "the Presence of clients to be counted in, `namespace/name`")
	f.StringVar(&o.id, "id", hostname, "the client's `name`")
	f.StringSliceVar(&o.servers, "servers", nil, "`addresses` of heartbeat servers to find the first one by, host:port, comma separated")
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with the client's credential; empty: none")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how long all of it may take")
	return cmd
}

// trial is one client from its connection to its being counted.
type trial struct {
	config   client.Config
	presence kube.ObjectKey
	api      kube.Reader
}

func (t trial) run(ctx context.Context, limit time.Duration) error {
	begin := time.Now()
	c, err := client.Dial(ctx, t.config)
	if err != nil {
		return fmt.Errorf("no server of %s let the client in within %s: %w", strings.Join(t.config.Servers, ", "), limit, err)
	}
	defer func() { _ = c.Close() }() // the proof is what was counted
	address, server := c.Server()
	fmt.Printf("connected to %s at %s after %s\n", server, address, time.Since(begin).Round(time.Millisecond))

	lastErr := errors.New("its count stayed 0")
	err = wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var p v1alpha1.Presence
		if err := t.api.Get(ctx, t.presence, &p); err != nil {
			if ctx.Err() == nil {
				lastErr = err
			}
			return false, nil
		}
		return p.Status.Counts.Alive > 0, nil
	})
	if err != nil {
		return fmt.Errorf("the client is connected, and Presence %s did not count it within %s (do the controllers run?): %w", t.presence, limit, lastErr)
	}
	fmt.Printf("counted in Presence %s after %s\n", t.presence, time.Since(begin).Round(time.Millisecond))
	return nil
}
