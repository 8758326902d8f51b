//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rollcall-dev/rollcall/test/controlplane"
	"github.com/rollcall-dev/rollcall/test/process"
)

// subject is a server to be measured.
type subject struct {
	name string
	// missing tells in a line how to install what is missing; nil: nothing ever is.
	missing func(plan) string
	start   func(context.Context, plan) (*running, error)
	// load makes its clients, who do nothing yet; nil: theirs are pockets.
	load func(address string) (clients, error)
	// udp: its clients beat by datagrams, and have closed their connections, which
	// were over TLS.
	udp bool
}

// running is a server under measurement.
type running struct {
	pid     int
	address string
	stop    func() error
}

var subjects = []subject{
	{name: "Rollcall", start: startRollcall("rollcall"), load: newLoad},
	{name: "Mosquitto", start: startMosquitto(false), missing: noMosquitto, load: newLoad},
	{name: "mochi-mqtt", start: startMochi, load: newLoad, missing: func(p plan) string {
		if _, err := os.Stat(p.mochi); err == nil {
			return ""
		}
		return "build it with `go build -C hack/bench/mochi -o bin/bench-mochi`, or tell where it is with -mochi"
	}},
	{name: "Rollcall-TLS", start: startRollcall("rollcall-tls"), load: newTLSLoad},
	{name: "Mosquitto-TLS", start: startMosquitto(true), missing: noMosquitto, load: newTLSLoad},
	{name: "Rollcall-UDP", start: startRollcall("rollcall-udp"), udp: true},
}

func noMosquitto(plan) string {
	if mosquitto() != "" {
		return ""
	}
	return "install it with `apt-get install mosquitto`"
}

// mosquitto is its path; Debian installs it where ordinary users don't look.
func mosquitto() string {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// startMosquitto starts one that listens for TLS, or for plain TCP.
func startMosquitto(secure bool) func(context.Context, plan) (*running, error) {
	return func(ctx context.Context, _ plan) (*running, error) {
		dir, err := os.MkdirTemp("", "rollcall-bench-")
		if err != nil {
			return nil, err
		}
		remove := func() error { return os.RemoveAll(dir) }
		address, port, err := freeAddress()
		if err != nil {
			return nil, errors.Join(err, remove())
		}
		config := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\nset_tcp_nodelay true\n", port)
		if secure {
			cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
			if err := writeSelfSigned(cert, key); err != nil {
				return nil, errors.Join(err, remove())
			}
			config += fmt.Sprintf("certfile %s\nkeyfile %s\ntls_version tlsv1.3\n", cert, key)
		}
		file := filepath.Join(dir, "mosquitto.conf")
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			return nil, errors.Join(err, remove())
		}
		return start(ctx, exec.Command(mosquitto(), "-c", file), address, remove)
	}
}

func startMochi(ctx context.Context, p plan) (*running, error) {
	address, _, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return start(ctx, exec.Command(p.mochi, address), address, nil)
}

// startRollcall starts a heartbeat server with an etcd of its own, which is
// another process and is not measured, but shares the machine; serve is what
// serveRollcall is told.
func startRollcall(serve string) func(context.Context, plan) (*running, error) {
	return func(ctx context.Context, p plan) (*running, error) {
		etcd, err := controlplane.StartEtcd(ctx, controlplane.EtcdConfig{})
		if err != nil {
			return nil, err
		}
		address, _, err := freeAddress()
		if err != nil {
			return nil, errors.Join(err, etcd.Stop())
		}
		cmd, err := itself("-serve", serve, "-listen", address, "-etcd", etcd.Endpoint(), "-loops", strconv.Itoa(p.loops), "-gc-percent", strconv.Itoa(p.percent))
		if err != nil {
			return nil, errors.Join(err, etcd.Stop())
		}
		return start(ctx, cmd, address, etcd.Stop)
	}
}

// itself is this program again, as one of the servers.
func itself(args ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(path, args...), nil
}

// start starts a server and waits until it accepts; after is done when it has
// been stopped.
func start(ctx context.Context, cmd *exec.Cmd, address string, after func() error) (*running, error) {
	cmd.Stderr = os.Stderr
	children := process.NewSpawner()
	stop := func() error {
		children.Close()
		if after != nil {
			return after()
		}
		return nil
	}
	child, err := children.Start(cmd)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var dialer net.Dialer
	for {
		c, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			c.Close()
			return &running{pid: child.PID(), address: address, stop: stop}, nil
		}
		select {
		case <-child.Done():
			return nil, errors.Join(errors.New("it ended by itself"), child.Err(), stop())
		default:
		}
		if rest(ctx, 20*time.Millisecond) != nil {
			return nil, errors.Join(err, stop())
		}
	}
}

// freeAddress is a port of the loopback interface that is free now, and was not
// yet used by anything that may linger.
func freeAddress() (string, int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", 0, err
	}
	defer l.Close()
	return l.Addr().String(), l.Addr().(*net.TCPAddr).Port, nil
}
