// Command standby is one of two members of which one writes to a ledger: the
// other takes over when the first goes offline. The revision at which it was
// told so is the fencing token of what it writes, so that a primary that was
// stopped, and wakes up, overwrites nothing.
//
//	standby -id a -other b -ledger http://ledger:8080
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/client"
)

func main() {
	servers := flag.String("servers", "rollcall.rollcall-system:1883", "addresses to begin with, separated by commas")
	presence := flag.String("presence", "im/pair", "namespace/name of the Presence")
	id := flag.String("id", "a", "this member's name")
	other := flag.String("other", "b", "the other one's")
	ledger := flag.String("ledger", "http://localhost:8080", "what the primary writes to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	m := member{
		role: role{other: *other}, ledger: *ledger, out: os.Stdout,
		config: client.Config{Servers: strings.Split(*servers, ","), Presence: *presence, ClientID: *id, Interval: time.Second},
	}
	if err := m.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "standby:", err)
		os.Exit(1)
	}
}

// member is one of the two.
type member struct {
	role   role
	config client.Config
	ledger string
	out    io.Writer
}

// writeEvery is how often the primary writes, and again is how long a member
// waits after a watch that was refused.
const (
	writeEvery = 100 * time.Millisecond
	again      = time.Second
)

// run is a member until ctx ends. It alone touches the role.
func (m *member) run(ctx context.Context) error {
	offline := make(chan struct{}, 1)
	m.config.OnEvent = func(e client.Event) {
		if e.Kind == client.Offline { // the lease is over: the other one may take over
			select {
			case offline <- struct{}{}:
			default:
			}
		}
	}
	c, err := client.Dial(ctx, m.config)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // a goodbye that fails is a lease that ends
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		m.role.begin()
		watching, end := context.WithCancel(ctx)
		changes := m.watch(watching, c)
		for m.turn(ctx, changes, offline, tick.C) {
		}
		end() // and watch anew
		for range changes {
		}
	}
	return nil
}

// turn takes what comes next; false: who is here must be asked anew.
func (m *member) turn(ctx context.Context, changes <-chan client.Change, offline <-chan struct{}, tick <-chan time.Time) bool {
	was := m.role.token
	select {
	case change, ok := <-changes:
		if !ok {
			return false
		}
		m.role.see(change)
		if was == 0 && m.role.token != 0 {
			fmt.Fprintln(m.out, "primary, token", m.role.token)
		}
	case <-offline:
		m.stepDown()
		return false
	case <-tick:
		if was == 0 {
			return true
		}
		switch err := m.write(ctx, was); {
		case errors.Is(err, errFenced):
			m.stepDown()
			return false
		case err != nil:
			fmt.Fprintln(m.out, "not written:", err)
		}
	case <-ctx.Done():
		return false
	}
	return true
}

// stepDown makes it a standby, if it is not one. Who is here must be asked anew then:
// what was told before does not count any more, nor is it told again by itself.
func (m *member) stepDown() {
	if m.role.token != 0 {
		fmt.Fprintln(m.out, "standby")
	}
	m.role.stepDown()
}

// watch tells of both members until ctx ends.
func (m *member) watch(ctx context.Context, c *client.Client) <-chan client.Change {
	changes := make(chan client.Change)
	go func() {
		defer close(changes)
		for change, err := range c.Watch(ctx, m.config.Presence, "") {
			if err != nil {
				fmt.Fprintln(m.out, "not told:", err)
				break
			}
			select {
			case changes <- change:
			case <-ctx.Done():
				return
			}
		}
		select { // no storm, where it is refused
		case <-time.After(again):
		case <-ctx.Done():
		}
	}()
	return changes
}

var errFenced = errors.New("overtaken")

func (m *member) write(ctx context.Context, token int64) error {
	q := url.Values{"holder": {m.config.ClientID}, "token": {fmt.Sprint(token)}, "value": {time.Now().Format(time.TimeOnly)}}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, m.ledger+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusConflict:
		return errFenced
	}
	return fmt.Errorf("the ledger says %s", answer.Status)
}
