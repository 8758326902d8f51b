package storetest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between one client and an etcd server, so that a test can cut
// off that client alone.
type Proxy struct {
	target string
	listen net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// Proxy makes another way to the server. It ends with the test.
func (s *Server) Proxy() *Proxy {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatalf("listen: %v", err)
	}
	p := &Proxy{target: s.client.Host, listen: l, conns: make(map[net.Conn]bool)}
	p.wg.Go(p.accept)
	s.t.Cleanup(func() { p.close(s.t) })
	return p
}

// Endpoints are the addresses to give to the client.
func (p *Proxy) Endpoints() []string { return []string{p.listen.Addr().String()} }

// Cut breaks all connections, and refuses new ones until Mend.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Mend lets connections through again.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

func (p *Proxy) close(t testing.TB) {
	if err := p.listen.Close(); err != nil {
		t.Errorf("close proxy: %v", err)
	}
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer p.drop(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.drop(server)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // ends when either side is closed
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}

// keep tells whether a connection may live; otherwise it is closed.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		_ = c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}
