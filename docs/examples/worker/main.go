// Command worker is present in a Presence for as long as it runs: others see that
// it is here, what it is doing, and within its lease that it is gone.
//
//	worker -servers rollcall.rollcall-system:1883 -presence im/workers -id worker-1
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/client"
)

func main() {
	servers := flag.String("servers", "rollcall.rollcall-system:1883", "addresses to begin with, separated by commas")
	presence := flag.String("presence", "im/workers", "namespace/name of the Presence")
	id := flag.String("id", "worker-1", "this worker's name")
	token := flag.String("token", "", "file with a token, read anew for each connection; empty: anonymous")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg := client.Config{Servers: strings.Split(*servers, ","), Presence: *presence, ClientID: *id, Interval: 5 * time.Second}
	if *token != "" {
		cfg.Token = func(context.Context) (string, error) {
			data, err := os.ReadFile(*token)
			return strings.TrimSpace(string(data)), err
		}
	}
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

// run works until ctx ends.
func run(ctx context.Context, cfg client.Config, out io.Writer) error {
	cfg.Attributes = map[string]string{"doing": "starting"}
	cfg.OnEvent = func(e client.Event) { fmt.Fprintln(out, e.Kind, e.Server, e.Reason) }
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	if err := c.SetAttributes(ctx, map[string]string{"doing": "work"}); err != nil {
		return fmt.Errorf("tell what this worker does: %w", err)
	}
	<-ctx.Done() // the work
	return c.Close()
}
