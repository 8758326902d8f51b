// Command rollcall is every part of Rollcall in one binary: the heartbeat
// server, the node agent, the controller, and a crowd of clients for
// demonstrations and tests.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set at link time.
var version = "dev"

// Exit statuses: what was asked for can't be understood or can't work; it
// could, and failed.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ()))
}

// run carries out one command line and returns the exit status.
func run(ctx context.Context, args, environ []string) int {
	root := rootCommand(environ)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "rollcall: "+err.Error())
	if errors.As(err, new(failure)) {
		return exitFailed
	}
	return exitUsage
}

// failure is an error of a command that was understood and had begun. Every
// other error is one of usage.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func rootCommand(environ []string) *cobra.Command {
	root := &cobra.Command{
		Use:           "rollcall",
		Short:         "Who is here, who still answers, and where everybody else should go",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.New("a subcommand is needed (see rollcall --help)")
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	for _, part := range []func() *cobra.Command{serverCommand, agentCommand, severCommand, controllerCommand, crowdCommand, tryCommand, certificatesCommand, pauseCommand, resumeCommand} {
		c := part()
		c.Args = cobra.NoArgs
		c.Flags().String("config", "", "YAML `file` of settings, one key per flag; flags and environment win")
		c.PreRunE = func(cmd *cobra.Command, _ []string) error { return applySettings(cmd.Flags(), environ) }
		root.AddCommand(c)
	}
	root.AddCommand(simulateCommand())
	return root
}
