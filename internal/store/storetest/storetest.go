// Package storetest starts real etcd servers for tests: inside the test's own
// process, on loopback, in the test's temporary directory, without fsync.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Server is one etcd server that can be stopped, and started again with its
// data and its address.
type Server struct {
	t      testing.TB
	dir    string
	client url.URL
	peer   url.URL
	etcd   *embed.Etcd
	ways   []*Proxy // the first is everybody's
}

// Etcd starts an etcd server and returns its endpoints. It stops with the test.
func Etcd(t testing.TB) []string {
	t.Helper()
	return Start(t).Endpoints()
}

// Start starts an etcd server that the test can stop and restart.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), client: freeURL(t), peer: freeURL(t)}
	s.Restart()
	t.Cleanup(s.Stop)
	s.Proxy()
	return s
}

// Endpoints are the addresses of the server, the same after a Restart.
func (s *Server) Endpoints() []string { return s.ways[0].Endpoints() }

// Restart starts the server where it was stopped, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = s.dir
	cfg.Name = "test"
	cfg.UnsafeNoFsync = true
	cfg.LogLevel = "fatal"
	cfg.LogOutputs = []string{"/dev/null"}
	cfg.ListenClientUrls = []url.URL{s.client}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = []url.URL{s.peer}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.Name + "=" + s.peer.String()
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		s.t.Fatalf("start etcd: %v", err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		s.etcd = etcd
	case err := <-etcd.Err():
		etcd.Close()
		s.t.Fatalf("start etcd: %v", err)
	case <-time.After(30 * time.Second):
		etcd.Close()
		s.t.Fatal("etcd was not ready after 30 s")
	}
}

// Stop stops the server; what it holds stays. Stopping twice is harmless.
func (s *Server) Stop() {
	if s.etcd == nil {
		return
	}
	// Connections are broken, as if it were killed: etcd by itself would wait 7 s
	// for watches to end.
	defer s.bar()()
	s.etcd.Close()
	s.etcd = nil
}

// Wipe stops the server, and starts it anew with nothing in it, at its address.
func (s *Server) Wipe() {
	s.t.Helper()
	s.Stop()
	s.dir = s.t.TempDir()
	s.Restart()
}

// Copy is what a server held at a moment, as a backup would have it.
type Copy struct {
	// Revision of the copy.
	Revision int64
	dir      string
}

// Save stops the server, copies all that it holds, and starts it again. Nobody
// gets through meanwhile.
func (s *Server) Save() Copy {
	s.t.Helper()
	defer s.bar()()
	c := Copy{dir: s.t.TempDir()}
	s.Stop()
	s.copy(c.dir, s.dir)
	s.Restart()
	c.Revision = s.etcd.Server.KV().Rev()
	return c
}

// Restore stops the server, and starts it with what a copy holds: all that was
// written since is lost, and its revisions are used again.
func (s *Server) Restore(c Copy) {
	s.t.Helper()
	defer s.bar()()
	s.Stop()
	s.dir = s.t.TempDir()
	s.copy(s.dir, c.dir)
	s.Restart()
}

// bar keeps everybody out, until what it returns is called.
func (s *Server) bar() (undo func()) {
	var undos []func()
	for _, p := range s.ways {
		undos = append(undos, p.block())
	}
	return func() {
		for _, undo := range undos {
			undo()
		}
	}
}

func (s *Server) copy(to, from string) {
	s.t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		s.t.Fatalf("copy etcd's data: %v", err)
	}
}

// Compact discards the history before the present revision, at once.
func (s *Server) Compact() {
	s.t.Helper()
	c := s.Client()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	got, err := c.Get(ctx, "/", clientv3.WithCountOnly())
	if err == nil {
		_, err = c.Compact(ctx, got.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		s.t.Fatalf("compact: %v", err)
	}
}

// Client is a raw client, for what a test does behind the store's back. It is
// closed with the test.
func (s *Server) Client() *clientv3.Client {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: s.Endpoints(), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		s.t.Fatalf("etcd client: %v", err)
	}
	s.t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, context.Canceled) {
			s.t.Errorf("close etcd client: %v", err)
		}
	})
	return c
}

// freeURL is an address that stays free while the server is stopped: of the ports
// that the kernel gives to nobody by itself (it begins at 32768).
func freeURL(t testing.TB) url.URL {
	t.Helper()
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.N(20_000))); err == nil {
			defer l.Close()
			return url.URL{Scheme: "http", Host: l.Addr().String()}
		}
	}
	t.Fatalf("find a free port: %v", err)
	return url.URL{}
}
