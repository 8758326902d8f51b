package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/installation"
)

// The size of the demo, but for its clients.
const (
	servers     = 3
	agents      = 5
	controllers = 2
)

// Where everything is in the API.
const (
	namespace    = installation.Namespace
	appNamespace = installation.AppNamespace
	appPresence  = installation.AppPresence
)

// connectWithin bounds how long all clients may take to come.
const connectWithin = 60 * time.Second

// world is everything that runs, and what was seen of it.
type world struct {
	*installation.Installation
	options options
	line    *timeline
	figures figures
	clients *clientsView
}

func newWorld(ctx context.Context, o options) (*world, error) {
	w := &world{options: o, line: newTimeline(), clients: newClientsView()}
	heading("Rollcall: %d heartbeat servers, %d node agents, %d controllers, %d clients, one kube-apiserver, two etcd", servers, agents, controllers, o.clients)
	var err error
	w.Installation, err = installation.Start(ctx, installation.Config{
		Servers: servers, Agents: agents, Controllers: controllers, Capacity: 3 * o.clients,
		Clients: v1alpha1.ClientsSpec{}, Binary: o.binary,
		Step:    func(what string) { w.step("%s", what) },
		Waiting: func(what string) { w.line.say(time.Now(), "…", "waiting for %s", what) },
	})
	if err == nil {
		err = w.connect(ctx)
	}
	if err != nil {
		defer w.Close()
		if ctx.Err() == nil {
			err = fmt.Errorf("%w\nLogs:\n%s", err, w.LogTails())
		}
		return nil, err
	}
	return w, nil
}

// connect lets the clients come.
func (w *world) connect(ctx context.Context) error {
	w.step("connecting %d clients", w.options.clients)
	if err := w.startCrowd(); err != nil {
		return err
	}
	return w.WaitFor(ctx, "every client to be connected, and counted", connectWithin, func() bool {
		return w.clients.total() == w.options.clients && w.Counted(ctx) >= w.options.clients*99/100
	})
}

func (w *world) step(format string, args ...any) { w.line.say(time.Now(), "setup", format, args...) }

func (w *world) startCrowd() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	go w.clients.read(read)
	return w.Spawn("crowd", write, "crowd", "--count", strconv.Itoa(w.options.clients), "--presence", appNamespace+"/"+appPresence,
		"--servers", strings.Join(w.Addresses(), ","), "--token-file", w.TokenFile(), "--interval", "5s", "--ack-timeout", "1s")
}

func serverName(i int) string { return installation.ServerName(i) }
