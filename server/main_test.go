package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server"
	"github.com/rollcall-dev/rollcall/test/process"
)

// childOf, when set, makes this binary a server on the etcd that it names, so
// that a test can stop a whole process.
const childOf = "ROLLCALL_TEST_CHILD_OF"

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(childOf); endpoint != "" {
		if err := serveAsChild(endpoint); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m,
		// etcd's own, and of clients that were told to go and never closed.
		goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
	)
}

// childTLS, when set, has the child listen for TLS and take datagrams too: the
// files of its certificate and key, a line each.
const childTLS = "ROLLCALL_TEST_CHILD_TLS"

// serveAsChild serves until its parent is gone.
func serveAsChild(endpoint string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ROLLCALL_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	st, err := store.Open(ctx, store.Config{Endpoints: []string{endpoint}, Logger: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	defer st.Close()
	config := server.Config{
		Name: "child", Namespace: "rollcall-system", Incarnation: "child.1", Listen: "127.0.0.1:0", Capacity: 1000,
		Store: st, Presences: known, Authenticator: clients{}, Logger: log, Registerer: prometheus.NewRegistry(), Loops: loops(),
	}
	if cert, key, ok := strings.Cut(os.Getenv(childTLS), "\n"); ok {
		shown, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return err
		}
		config.ListenTLS, config.ListenUDP, config.TLS = "127.0.0.1:0", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{shown}}
	}
	s, err := server.New(config)
	if err != nil {
		return err
	}
	fmt.Println(s.Addr(), s.AddrTLS())
	return s.Run(ctx)
}

// child is a server in a process of its own.
type child struct {
	t       testing.TB
	addr    string
	tls     string // addr, where it doesn't listen for TLS
	process *os.Process
}

func startChild(t testing.TB, endpoint string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childOf+"="+endpoint)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, process: cmd.Process}
	t.Cleanup(func() {
		c.signal(syscall.SIGCONT)
		in.Close()
		kill := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child says nothing: %v", err)
	}
	c.addr, c.tls, _ = strings.Cut(strings.TrimSpace(line), " ")
	return c
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	err := c.process.Signal(s)
	if err == nil && s == syscall.SIGSTOP {
		err = process.AwaitStopped(c.process.Pid)
	}
	if err != nil {
		c.t.Errorf("signal the child: %v", err)
	}
}
