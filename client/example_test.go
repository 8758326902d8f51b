package client_test

import (
	"context"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/client"
)

// A worker that is present for as long as it runs.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	c, err := client.Dial(ctx, client.Config{
		Servers:  []string{"rollcall.rollcall-system:1883"},
		Presence: "im/workers",
		ClientID: "worker-1",
		Token: func(context.Context) (string, error) {
			token, err := os.ReadFile("/var/run/secrets/rollcall/token")
			return strings.TrimSpace(string(token)), err
		},
		Interval: 5 * time.Second,
		OnEvent: func(e client.Event) {
			log.Printf("%s: %s (was at %s: %s)", e.Kind, e.Server, e.Previous, e.Reason)
		},
	})
	if err != nil {
		log.Print(err)
		return
	}
	<-ctx.Done()
	if err := c.Close(); err != nil { // others hear of it at once
		log.Print(err)
	}
}
