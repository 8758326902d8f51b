package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/rollcall-dev/rollcall/internal/sim"
)

// interrupted is the exit status of what a signal ended: 128 + SIGINT, as shells have it.
const interrupted = 130

// simulateCommand plays a scenario file in simulated time.
func simulateCommand() *cobra.Command {
	var o struct {
		seed uint64
		plot string
	}
	cmd := &cobra.Command{
		Use:   "simulate FILE",
		Short: "Play a scenario in simulated time: what is judged, what is moved, and which bars are missed",
		Long: `Play a scenario in simulated time, by the real rules of judgement and planning.

FILE is a scenario file, or the name of a scenario of the library that is
built in. It prints what happened in the first run, the figures of all runs,
and the bars that were missed; the exit status is 1 when one was that is not
known to be.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sc, err := readScenario(args[0])
			if err != nil {
				return err
			}
			// It computes, and holds nothing: a signal ends it at once.
			defer context.AfterFunc(cmd.Context(), func() { os.Exit(interrupted) })()
			out := cmd.OutOrStdout()
			trace := sim.Trace(sc, o.seed)
			for _, n := range trace.Notes() {
				fmt.Fprintln(out, n)
			}
			if o.plot != "" {
				if err := drawPlot(o.plot, trace); err != nil {
					return failure{err}
				}
			}
			result := sim.Run(sc, o.seed, false)
			fmt.Fprintln(out)
			result.Write(out)
			for _, m := range result.Misses() {
				if m.Why == "" {
					return failure{fmt.Errorf("a bar of %s is missed", args[0])}
				}
			}
			return nil
		},
	}
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "of all that is random: the same seed, the same outcome")
	cmd.Flags().StringVar(&o.plot, "plot", "", "draw the first run into this SVG `file`")
	return cmd
}

// readScenario reads a file, or else what the library has by that name.
func readScenario(name string) (*sim.Scenario, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		sc, lerr := sim.Named(name)
		if lerr != nil {
			return nil, fmt.Errorf("there is no file %s, and %w", name, lerr)
		}
		return sc, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc, err := sim.ParseScenario(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return sc, nil
}

func drawPlot(name string, p *sim.Plot) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := p.WriteSVG(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.Close()
}
