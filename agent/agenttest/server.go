// Package agenttest is a heartbeat server that misbehaves on command, for the
// tests of agents: real sockets on the loopback interface, so that the kernel's
// word is real too.
package agenttest

import (
	"bufio"
	"crypto/tls"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Server answers MQTT 5 as far as agents speak it. Its methods may be called at
// any time.
type Server struct {
	// Name that it gives, "namespace/pod".
	Name string
	// Address that it listens on, also after Kill and Revive.
	Address string

	t  testing.TB
	wg sync.WaitGroup

	mu       sync.Mutex
	changed  *sync.Cond
	listener net.Listener // nil: killed
	conns    map[net.Conn]string
	hung     bool
	closed   bool
	secure   *tls.Config // nil: plain
	delay    time.Duration
	queue    time.Duration
	refusal  mqtt.Reason
	connects []mqtt.Connect
	reports  chan Report
}

// Report is one that came, and by which client.
type Report struct {
	Client  string
	Payload []byte
}

// NewServer starts a server that answers everything at once.
func NewServer(t testing.TB, name string) *Server {
	t.Helper()
	s := &Server{Name: name, t: t, conns: map[net.Conn]string{}, reports: make(chan Report, 1024)}
	s.changed = sync.NewCond(&s.mu)
	s.listen("127.0.0.1:0")
	t.Cleanup(func() {
		s.set(func() { s.hung, s.closed = false, true })
		s.Kill()
		s.wg.Wait()
	})
	return s
}

func (s *Server) listen(address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Address = l.Addr().String()
	s.set(func() { s.listener = l })
	s.wg.Go(func() { s.accept(l) })
}

func (s *Server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.changed.Broadcast()
}

// Hang makes the program stop, while its kernel goes on: connections are
// accepted, bytes acknowledged, and nothing is answered, until Resume.
func (s *Server) Hang() { s.set(func() { s.hung = true }) }

// Resume ends Hang: what has come meanwhile is answered.
func (s *Server) Resume() { s.set(func() { s.hung = false }) }

// Secure makes the server speak TLS on connections to come.
func (s *Server) Secure(config *tls.Config) { s.set(func() { s.secure = config }) }

// Slow makes every answer leave d late.
func (s *Server) Slow(d time.Duration) { s.set(func() { s.delay = d }) }

// Queue is the queue delay that the server admits to.
func (s *Server) Queue(d time.Duration) { s.set(func() { s.queue = d }) }

// Refuse makes the server refuse every CONNECT for a reason; mqtt.Success: not.
func (s *Server) Refuse(r mqtt.Reason) { s.set(func() { s.refusal = r }) }

// Reset ends all connections with a reset; new ones are welcome.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // only a closed connection has none
		}
		c.Close()
	}
}

// Kill ends all connections, and refuses new ones until Revive.
func (s *Server) Kill() {
	s.mu.Lock()
	l := s.listener
	s.listener = nil
	s.mu.Unlock()
	if l != nil {
		l.Close()
	}
	s.Reset()
}

// Revive ends Kill, at the same address.
func (s *Server) Revive() { s.listen(s.Address) }

// Clients are the ids of those who are connected.
func (s *Server) Clients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, id := range s.conns {
		if id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// Connects are all CONNECT packets that came.
func (s *Server) Connects() []mqtt.Connect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]mqtt.Connect(nil), s.connects...)
}

// Reports has every report that was acknowledged.
func (s *Server) Reports() <-chan Report { return s.reports }

// pass waits until the server does not hang, and returns how it behaves.
func (s *Server) pass() (delay, queue time.Duration, refusal mqtt.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.hung {
		s.changed.Wait()
	}
	return s.delay, s.queue, s.refusal
}

func (s *Server) accept(l net.Listener) {
	for {
		s.pass()
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed || s.listener != l {
			c.Close()
		} else {
			if s.secure != nil {
				c = tls.Server(c, s.secure)
			}
			s.conns[c] = ""
			s.wg.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
	}
}

type late struct {
	due time.Time
	b   []byte
}

// serve answers one connection, in order.
func (s *Server) serve(c net.Conn) {
	answers := make(chan late, 4096)
	s.wg.Go(func() {
		for a := range answers {
			<-time.After(time.Until(a.due))
			if _, err := c.Write(a.b); err != nil {
				c.Close() // the reader ends
			}
		}
	})
	defer func() {
		close(answers)
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	var client string
	for {
		frame, err := read(r)
		if err != nil {
			return
		}
		delay, queue, refusal := s.pass()
		b, goodbye := s.answer(frame, &client, queue, refusal)
		s.set(func() {
			if _, ok := s.conns[c]; ok {
				s.conns[c] = client
			}
		})
		if b != nil {
			answers <- late{time.Now().Add(delay), b}
		}
		if goodbye {
			return
		}
	}
}

func (s *Server) answer(frame []byte, client *string, queue time.Duration, refusal mqtt.Reason) (b []byte, goodbye bool) {
	switch mqtt.TypeOf(frame[0]) {
	case mqtt.CONNECT:
		c, err := mqtt.ParseConnect(frame)
		if err != nil {
			s.t.Errorf("CONNECT: %v", err)
			return nil, true
		}
		c.Password = append([]byte(nil), c.Password...)
		s.set(func() { s.connects = append(s.connects, c) })
		if refusal == mqtt.Success {
			*client = c.ClientID
		}
		return mqtt.Connack{Version: mqtt.V5, Reason: refusal, User: []mqtt.User{
			{Name: wire.PropServer, Value: s.Name},
			{Name: wire.PropIncarnation, Value: s.Name + ".1"},
		}}.Append(nil, 0), false
	case mqtt.PINGREQ:
		return mqtt.Pong, false
	case mqtt.PUBLISH:
		p, err := mqtt.ParsePublish(frame, mqtt.V5)
		if err != nil {
			s.t.Errorf("PUBLISH: %v", err)
			return nil, true
		}
		if p.Topic == wire.TopicReport {
			s.reports <- Report{*client, append([]byte(nil), p.Payload...)}
		}
		return mqtt.Puback{PacketID: p.PacketID, User: []mqtt.User{
			{Name: wire.PropQueueDelay, Value: strconv.FormatInt(queue.Microseconds(), 10)},
		}}.Append(nil, mqtt.V5, 0), false
	}
	return nil, true
}

// read reads one packet.
func read(r *bufio.Reader) ([]byte, error) {
	for n := 2; ; n++ {
		head, err := r.Peek(n)
		if err != nil {
			return nil, err
		}
		if head[n-1]&0x80 != 0 && n < 5 {
			continue
		}
		size := n
		for i, b := range head[1:n] {
			size += int(b&0x7f) << (7 * i)
		}
		frame := make([]byte, size)
		for done := 0; done < size; {
			k, err := r.Read(frame[done:])
			if err != nil {
				return nil, err
			}
			done += k
		}
		return frame, nil
	}
}
