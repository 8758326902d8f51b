// Command friends is a chat client without the chat: it is present, and tells
// which of its friends are here, as they come and go.
//
//	friends -servers rollcall.rollcall-system:1883 -presence im/people -id ann bob cid
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/adaptive"
)

func main() {
	servers := flag.String("servers", "rollcall.rollcall-system:1883", "addresses to begin with, separated by commas")
	presence := flag.String("presence", "im/people", "namespace/name of the Presence")
	id := flag.String("id", "ann", "this person's name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg := client.Config{Servers: strings.Split(*servers, ","), Presence: *presence, ClientID: *id}
	if err := run(ctx, cfg, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "friends:", err)
		os.Exit(1)
	}
}

// run is present, and writes of friends, until ctx ends.
func run(ctx context.Context, cfg client.Config, friends []string, out io.Writer) error {
	heartbeat, err := adaptive.NewBisect(adaptive.BisectSettings{}) // a phone's battery
	if err != nil {
		return err
	}
	cfg.Heartbeat, cfg.Network, cfg.AckTimeout = heartbeat, "home", adaptive.MarsAnswerTimeout
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	lines := make(chan string)
	var group errgroup.Group
	for _, friend := range friends {
		group.Go(func() error { return watch(ctx, c, cfg.Presence, friend, lines) })
	}
	go func() { _ = group.Wait(); close(lines) }()
	for line := range lines {
		fmt.Fprintln(out, line)
	}
	return errors.Join(group.Wait(), c.Close())
}

// watch tells of one friend until ctx ends.
func watch(ctx context.Context, c *client.Client, presence, friend string, lines chan<- string) error {
	was := false
	for change, err := range c.Watch(ctx, presence, friend) {
		switch {
		case err != nil:
			return err
		case change.Online == was:
			continue // at another server, say: a move takes nobody offline
		case change.Online:
			lines <- friend + " is here"
		case change.LastSeen.IsZero():
			lines <- friend + " is gone"
		default:
			lines <- friend + " is gone, last seen " + change.LastSeen.Format(time.TimeOnly)
		}
		was = change.Online
	}
	return nil
}
