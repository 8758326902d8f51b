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
	cond  *sync.Cond
	cut   bool
	mute  bool
	conns map[net.Conn]bool
}

// Proxy makes another way to the server. It ends with the test.
func (s *Server) Proxy() *Proxy {
	s.t.Helper()
	p := ProxyTo(s.t, s.client.Host)
	s.ways = append(s.ways, p)
	return p
}

// ProxyTo makes a way to any address, host:port. It ends with the test.
func ProxyTo(t testing.TB, address string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	p := &Proxy{target: address, listen: l, conns: make(map[net.Conn]bool)}
	p.cond = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(func() { p.close(t) })
	return p
}

// Endpoints are the addresses to give to the client.
func (p *Proxy) Endpoints() []string { return []string{p.listen.Addr().String()} }

// Cut breaks all connections, and refuses new ones until Mend.
func (p *Proxy) Cut() { p.block() }

// block is Cut, undone by what it returns.
func (p *Proxy) block() (undo func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.cut
	p.cut = true
	p.cond.Broadcast()
	for c := range p.conns {
		_ = c.Close()
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cut = was
	}
}

// Mute lets requests through and holds the answers back, until Mend or Cut.
func (p *Proxy) Mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
}

// Mend undoes Cut and Mute: what was held back arrives.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.mute = false, false
	p.cond.Broadcast()
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
	pump := func(to io.Writer, from io.Reader) func() {
		return func() {
			_, _ = io.Copy(to, from) // ends when either side is closed
			_ = client.Close()
			_ = server.Close()
		}
	}
	both.Go(pump(server, client))
	both.Go(pump(answers{p, client}, server))
	both.Wait()
}

// answers writes to a client, unless it is to hear nothing.
type answers struct {
	p  *Proxy
	to io.Writer
}

func (a answers) Write(b []byte) (int, error) {
	a.p.mu.Lock()
	for a.p.mute && !a.p.cut {
		a.p.cond.Wait()
	}
	a.p.mu.Unlock()
	return a.to.Write(b)
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
