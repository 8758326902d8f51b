// Command kubectl-presence is a kubectl plugin for those who run Rollcall: why a
// server is held to be what it is, where a client is, taking servers out, making
// Services ready for that, and exempting servers. It goes through the Kubernetes API; the stop switch that works
// without it is "rollcall pause".
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// version is set at link time.
var version = "dev"

// Exit statuses: what was asked for can't be understood; it could, and failed or
// was refused.
const (
	exitFailed = 1
	exitUsage  = 2
)

// defaultSystem is the namespace that Rollcall is installed into, unless told.
const defaultSystem = "rollcall-system"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], newPlugin(os.Stdout, os.Stderr)))
}

// run carries out one command line and returns the exit status.
func run(ctx context.Context, args []string, p *plugin) int {
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetOut(p.out)
	root.SetErr(p.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(p.err, "error: "+err.Error())
	if errors.As(err, new(failure)) {
		return exitFailed
	}
	return exitUsage
}

// failure is an error of a command that was understood. Every other error is
// one of usage.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// fail is a failure in one sentence, which names the remedy.
func fail(format string, args ...any) error { return failure{fmt.Errorf(format, args...)} }

// plugin is what all commands share.
type plugin struct {
	out, err io.Writer
	// in is where a person answers.
	in    io.Reader
	flags *genericclioptions.ConfigFlags
	// system is the installation's namespace, and controller the address of one
	// to ask directly; empty: those of the system namespace, through the API server.
	system, controller string
	// systemGiven: a person has named the system namespace.
	systemGiven bool
	now         func() time.Time
	// look is how often progress is looked at, and hint after how long without
	// any a person is told what may be wrong.
	look, hint time.Duration
	// settle is how long a change may take to reach those parts of Kubernetes that
	// don't tell whether they have seen it.
	settle time.Duration
}

func newPlugin(out, err io.Writer) *plugin {
	return &plugin{
		out: out, err: err, flags: genericclioptions.NewConfigFlags(true), system: defaultSystem,
		in: os.Stdin, now: time.Now, look: 500 * time.Millisecond, hint: 10 * time.Second, settle: 5 * time.Second,
	}
}

func (p *plugin) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "presence",
		Short: "Who is here, who still answers, and where everybody else should go",
		Long: `Ask Rollcall why it holds a server to be what it is and where a client is, move
the clients of a server elsewhere, make Services ready for that, and exempt servers
from being acted on.`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl presence"},
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("a subcommand is needed: why, who, drain, adopt, pause or resume (see kubectl presence --help)")
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	f := root.PersistentFlags()
	p.flags.AddFlags(f)
	f.StringVar(&p.system, "system-namespace", p.system, "The `namespace` that Rollcall is installed in; where a Presence names its installation, that one is asked unless this is given")
	f.StringVar(&p.controller, "controller", "", "`URL` of a controller's --http to ask, instead of the controllers through the API server: for a port-forward, or while the Kubernetes API is down")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		p.systemGiven = f.Changed("system-namespace")
		if u, err := url.Parse(p.controller); p.controller != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return fmt.Errorf("--controller %q is no URL: write http://host:port", p.controller)
		}
		return nil
	}
	root.AddCommand(p.whyCommand(), p.whoCommand(), p.drainCommand(), p.adoptCommand(), p.pauseCommand(), p.resumeCommand())
	return root
}

// turnTo makes the installation that a Presence names the one that is asked.
func (p *plugin) turnTo(of *v1alpha1.Presence) {
	if name := v1alpha1.InstallationOf(of); name != "" && !p.systemGiven {
		p.system = name
	}
}

// one takes exactly one argument, called so.
func one(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("exactly one %s is needed: %s (see --help)", name, cmd.UseLine())
		}
		return nil
	}
}
