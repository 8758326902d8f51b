package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// switchWithin bounds how long pause and resume wait for etcd.
const switchWithin = 10 * time.Second

// switchOptions are the settings of pause and resume. They run where a
// controller runs, too, so they take its settings, --config and environment
// alike, and leave those that say nothing of etcd alone.
type switchOptions struct {
	etcdOptions
	common
	kubeOptions
	installationOptions
	id            string
	gossipOnNodes bool
}

func (o *switchOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.common.flags(f)
	o.kubeOptions.flags(f)
	f.StringVar(&o.id, "id", "", "not used")
	f.BoolVar(&o.gossipOnNodes, "gossip-on-nodes", false, "not used")
	o.installationOptions.flags(f)
	f.VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	o.etcdOptions.flags(f)
}

func pauseCommand() *cobra.Command {
	var o switchOptions
	var why, by string
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Stop all moving of clients, in etcd itself: works while the Kubernetes API is down",
		Long: `Stop all moving of clients in the whole installation, until "rollcall resume".

It writes to etcd itself, so it works while the Kubernetes API is down. Failovers
in progress are cancelled. Servers go on answering, and verdicts go on; clients
that leave a server by themselves still do. To exempt one server or one Presence
only, use "kubectl presence pause".`,
		Example: `  rollcall pause --etcd https://etcd-0:2379 --why "network maintenance until 04:00"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.throw(cmd.Context(), "paused", func(ctx context.Context, s *store.Store, was *store.Pause) error {
				out := cmd.OutOrStdout()
				if was != nil {
					fmt.Fprintf(out, "Paused already, %s: it stays so.\n", pauseWords(was))
					return nil
				}
				p := store.Pause{By: by, Why: why, Since: time.Now().UTC().Truncate(time.Second)}
				if err := s.SetPause(ctx, p); err != nil {
					return err
				}
				fmt.Fprintf(out, "Paused, %s. It was not paused before. No client is moved until \"rollcall resume\".\n", pauseWords(&p))
				return nil
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&why, "why", "", "the reason, for whoever finds everything paused")
	cmd.Flags().StringVar(&by, "by", whoAmI(), "your `name`")
	return cmd
}

func resumeCommand() *cobra.Command {
	var o switchOptions
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Undo pause",
		Long: `Let clients be moved again after "rollcall pause".

It writes to etcd itself. Exemptions by the annotation rollcall.dev/paused stay:
those are taken back with "kubectl presence resume".`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.throw(cmd.Context(), "resumed", func(ctx context.Context, s *store.Store, was *store.Pause) error {
				// Even when nothing was seen: a record that can't be read must go too.
				if err := s.ClearPause(ctx); err != nil {
					return err
				}
				return resumed(cmd.OutOrStdout(), was)
			})
		},
	}
	o.flags(cmd)
	return cmd
}

func resumed(out io.Writer, was *store.Pause) error {
	if was == nil {
		fmt.Fprintln(out, "Not paused: it was not paused before either.")
		return nil
	}
	fmt.Fprintf(out, "Resumed. It had been paused, %s.\n", pauseWords(was))
	return nil
}

// throw opens the store, reads how the switch stands, and does what is to be
// done, all within switchWithin.
func (o *switchOptions) throw(ctx context.Context, done string, do func(context.Context, *store.Store, *store.Pause) error) error {
	var c checks
	o.etcdOptions.check(&c)
	if err := c.err(); err != nil {
		return err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, switchWithin)
	defer cancel()
	away := func(err error, outcome string) error {
		if ctx.Err() == nil {
			return failure{err}
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return failure{fmt.Errorf("interrupted: %s", outcome)}
		}
		return failure{fmt.Errorf("etcd at %s has not answered within %v, %s: check --etcd, and that most of its members run (%w)",
			strings.Join(o.endpoints, ","), time.Since(began).Round(100*time.Millisecond), outcome, err)}
	}
	const unchanged = "and nothing was changed"
	s, err := o.open(ctx, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		return away(err, unchanged)
	}
	defer func() { _ = s.Close() }()
	was, err := readPause(ctx, s)
	if err != nil {
		return away(err, unchanged)
	}
	if err := do(ctx, s, was); err != nil {
		return away(err, "so that it may be "+done+" or not (run it again: it does no harm)")
	}
	return nil
}

// readPause is how the switch stands; nil: not pulled.
func readPause(ctx context.Context, s *store.Store) (*store.Pause, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for u := range s.WatchPause(ctx) {
		if p, ok := u.Put[store.PauseKey]; ok {
			return &p, nil
		}
		if u.Reset {
			return nil, nil
		}
	}
	return nil, errors.New("etcd did not say how the switch stands")
}

// pauseWords is "since 2026-03-01 03:12:07 UTC by ann: network maintenance".
func pauseWords(p *store.Pause) string {
	s := "since " + p.Since.UTC().Format("2006-01-02 15:04:05 UTC")
	if p.By != "" {
		s += " by " + p.By
	}
	if p.Why != "" {
		s += ": " + p.Why
	}
	return s
}

// whoAmI is user@host, as far as the system says.
func whoAmI() string {
	name := "somebody"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
