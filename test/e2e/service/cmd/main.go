// Command cmd is an ordinary server, or ordinary clients, for the image that
// hack/e2e makes:
//
//	service serve -speech grpc
//	service use -speech grpc -address chat.shop:8080 -count 300
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("service", flag.ContinueOnError)
	speech := flags.String("speech", string(service.HTTP), "`protocol`: http, grpc or websocket")
	control := flags.String("control", ":8081", "`address` that the suite speaks to")
	var do func(context.Context, service.Speech, net.Listener) error
	switch {
	case len(args) > 0 && args[0] == "serve":
		do = serve(flags)
	case len(args) > 0 && args[0] == "use":
		do = use(flags)
	default:
		return errors.New("the first word must be serve or use")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *control)
	if err != nil {
		return err
	}
	return do(ctx, service.Speech(*speech), l)
}

func serve(flags *flag.FlagSet) func(context.Context, service.Speech, net.Listener) error {
	address := flags.String("listen", ":8080", "`address` for clients and probes")
	queue := flags.Int("queue", 16, "connections that may wait to be accepted")
	slow := flags.Duration("slow", 5*time.Second, "how much longer an answer of a slow server takes")
	return func(ctx context.Context, speech service.Speech, control net.Listener) error {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", *address)
		if err != nil {
			return err
		}
		if err := service.Shorten(l.(*net.TCPListener), *queue); err != nil {
			return err
		}
		return service.Serve(ctx, service.ServerConfig{Name: name, Speech: speech, Listener: l, Control: control, Slow: *slow})
	}
}

func use(flags *flag.FlagSet) func(context.Context, service.Speech, net.Listener) error {
	c := service.ClientsConfig{}
	flags.StringVar(&c.Address, "address", "", "`host:port` of the service")
	flags.IntVar(&c.Count, "count", 300, "clients")
	flags.IntVar(&c.PerSecond, "per-second", 100, "how many of them come each second")
	flags.DurationVar(&c.Every, "every", time.Second, "between two questions of a client")
	flags.IntVar(&c.Units, "units", 0, "work that an answer over HTTP costs; 0: what is usual")
	return func(ctx context.Context, speech service.Speech, control net.Listener) error {
		c.Speech, c.Control = speech, control
		return service.Use(ctx, c)
	}
}
