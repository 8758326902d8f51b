// Package clienttest runs real heartbeat servers for tests and measurements of
// clients, each as a process of its own, so that it can be stopped, killed and
// made slow; etcd too is a real one. A test that uses it calls Main in TestMain.
//
// The servers know one Presence, im/android, with intervals of 1 s to 1 min, and let in
// whoever doesn't say that its password is "wrong".
package clienttest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/test/process"
)

const (
	// Presence is the one that the servers know.
	Presence = "im/android"
	// Namespace of the servers.
	Namespace = "test"
	// patience is how long anything may take on a busy machine.
	patience = time.Minute
)

// Incarnation is the one of a server by its name.
func Incarnation(name string) string { return "uid-" + name + ".1" }

// Config is what a Site is made of; zero values are the server's own defaults.
type Config struct {
	// Servers is how many.
	Servers int
	// Hosts are the addresses to listen at, by server; missing ones: 127.0.0.1.
	Hosts []string
	// ConnectRates are how many CONNECTs a second each server admits; missing
	// ones: the server's default.
	ConnectRates []float64
	// Capacity of each. Zero: 1000.
	Capacity int
	// Grace is the Presence's. Zero: 20 s, so that a busy machine takes nobody
	// for gone.
	Grace time.Duration
	// Cert and Key are PEM files: the servers speak TLS with them, and take beats by
	// datagrams. Empty: plain TCP.
	Cert, Key string
}

// Site is some servers and their etcd.
type Site struct {
	// Store is a view of its own on what the servers record.
	Store   *store.Store
	Servers []*Server
}

// Server is a process.
type Server struct {
	// Name is "namespace/name", Address where it listens.
	Name, Address string

	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
}

// Start runs a site until the test ends.
func Start(t testing.TB, c Config) *Site {
	t.Helper()
	endpoints := storetest.Etcd(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := store.Open(ctx, store.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() { _ = st.Close() })
	s := &Site{Store: st}
	for i := range c.Servers {
		o := order{Endpoints: endpoints, Name: fmt.Sprint("server-", i), Listen: "127.0.0.1:0", Capacity: c.Capacity, Grace: c.Grace, Cert: c.Cert, Key: c.Key}
		if i < len(c.ConnectRates) {
			o.ConnectRate = c.ConnectRates[i]
		}
		if i < len(c.Hosts) {
			o.Listen = c.Hosts[i] + ":0"
		}
		o.Capacity = cmp.Or(o.Capacity, 1000)
		o.Grace = cmp.Or(o.Grace, 20*time.Second)
		s.Servers = append(s.Servers, run(t, o))
	}
	return s
}

func run(t testing.TB, o order) *Server {
	t.Helper()
	value, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Name: Namespace + "/" + o.Name, t: t, cmd: exec.Command(os.Args[0])}
	s.cmd.Env = append(os.Environ(), beServer+"="+string(value))
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start a server: %v", err)
	}
	t.Cleanup(func() {
		s.Continue() // what is stopped reads nothing
		_ = s.in.Close()
		_ = s.cmd.Wait() // it may have been killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s has not begun to serve: %v", s.Name, err)
	}
	s.Address = strings.TrimSpace(line)
	return s
}

// Addresses are those of all servers.
func (s *Site) Addresses() []string {
	var l []string
	for _, one := range s.Servers {
		l = append(l, one.Address)
	}
	return l
}

// Stop stops the process (SIGSTOP): the kernel goes on to accept and to
// acknowledge for it. It returns when it has stopped. Continue lets it run again.
func (s *Server) Stop() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	if err := process.AwaitStopped(s.cmd.Process.Pid); err != nil {
		s.t.Error(err)
	}
}

// Continue ends Stop.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

// Kill kills the process.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

func (s *Server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) } // it may have ended

// Delay makes everything that the server sends leave d late.
func (s *Server) Delay(d time.Duration) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, d); err != nil {
		s.t.Errorf("make %s slow: %v", s.Name, err)
	}
}

// Recorded waits until it is recorded that a member is at a server, by its name.
func (s *Site) Recorded(t testing.TB, member, server string) {
	t.Helper()
	Eventually(t, member+" is recorded at "+server, func() bool {
		got, err := s.Store.ReadSessions(t.Context(), []store.SessionKey{{Namespace: "im", Presence: "android", Client: member}})
		return err == nil && got[0].Current != nil && !got[0].Current.Offline && got[0].Current.Server == server
	})
}

// Eventually waits until what must come to pass does.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); !ok(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
