package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/log"

	"github.com/rollcall-dev/rollcall/internal/certificate"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// receiveMaximum is how many PUBLISH packets the server may have in flight.
// paho makes a channel of so many pointers for each connection: 512 KiB, if it
// is not declared.
const receiveMaximum = 16

// session is one connection to one server. Its news go to the loop once it
// has been adopted, and no more after its life.
type session struct {
	address, server string
	conn            *conn
	kernel          kernel
	paho            *paho.Client

	adopted chan struct{} // closed by the loop
	// life ends, by bury, when the loop has given the session up.
	life context.Context
	bury context.CancelFunc
	tell func(*session, any)

	// line is the way for datagrams; nil: there is none. hushed: the connection is
	// closed because of it, and nothing that becomes of it matters.
	line   *line
	hushed atomic.Bool

	// signer signs beats; nil: the server doesn't ask for it. now is the clock.
	signer *signer
	now    func() time.Time
}

// attempt connects to one server: token, TCP, TLS, CONNECT, CONNACK. It returns a
// session and accepted, or no session and rejected.
func (c *Client) attempt(ctx context.Context, d dial) (*session, any) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, ErrTimeout)
	defer cancel()
	password := c.cfg.Password
	if c.cfg.Token != nil {
		token, err := c.cfg.Token(ctx)
		if err != nil {
			return nil, rejected{id: d.id, address: d.address, err: fmt.Errorf("read token: %w", err), ours: true}
		}
		password = token
	}
	fail := func(err error, g guidance) (*session, any) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, rejected{id: d.id, address: d.address, err: &AttemptError{d.address, err}, guidance: g}
	}
	nc, err := c.cfg.Dialer(ctx, "tcp", d.address)
	if err == nil && c.cfg.TLS != nil {
		nc, err = certificate.Handshake(ctx, nc, d.address, c.cfg.TLS)
	}
	if err != nil {
		return fail(err, guidance{})
	}
	s := &session{kernel: kernelOf(nc), address: d.address, adopted: make(chan struct{}), tell: c.hear, now: c.cfg.Clock.Now}
	s.life, s.bury = context.WithCancel(context.Background())
	s.kernel.fit(time.Duration(d.keepAlive)*time.Second, d.timeout)
	s.conn = newConn(nc, c.cfg.AckTimeout, func(kind byte) { s.tell(s, heard{pong: kind == packets.PINGRESP}) })
	s.paho = paho.NewClient(paho.ClientConfig{
		Conn:        s.conn,
		PingHandler: noPinger{},
		AuthHandler: noAuth{},
		// Attempts and publications are bounded by their contexts.
		PacketTimeout:     24 * time.Hour,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) { c.published(p.Packet); return true, nil }},
		OnClientError: func(err error) {
			if !s.hushed.Load() {
				s.tell(s, broke{s.conn.cause(err)})
			}
		},
		OnServerDisconnect: func(p *paho.Disconnect) {
			if s.hushed.Load() {
				return
			}
			g := guidanceOf(p.Properties.User, p.Properties.ServerReference)
			s.tell(s, dismissed{&Refusal{"DISCONNECT", p.ReasonCode, p.Properties.ReasonString}, g})
		},
	})
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	ack, err := s.paho.Connect(ctx, c.connectPacket(password, d))
	switch {
	case err == nil && !stop():
		s.close()
		return fail(ErrTimeout, guidance{})
	case err == nil:
		if key, ok := property(ack.Properties.User, wire.PropBeatKey); ok {
			if s.signer, err = newSigner(key); err != nil {
				s.close()
				return fail(err, guidance{})
			}
		}
		s.server, _ = property(ack.Properties.User, wire.PropServer)
		a := accepted{id: d.id, address: d.address, server: s.server, guidance: guidanceOf(ack.Properties.User, ack.Properties.ServerReference)}
		if k := ack.Properties.ServerKeepAlive; k != nil {
			a.keepAlive = *k
		}
		a.guidance.references = nil // for those that it refuses
		s.line = c.newLine(ctx, ack.Properties.User)
		return s, a
	}
	stop()
	s.bury()
	if ack != nil {
		return fail(&Refusal{"CONNACK", ack.ReasonCode, ack.Properties.ReasonString},
			guidanceOf(ack.Properties.User, ack.Properties.ServerReference))
	}
	if !brokenPipe(err) && !errors.Is(err, ErrProtocol) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err) // it was read, and not understood
	}
	return fail(s.conn.cause(err), guidance{})
}

func (c *Client) connectPacket(password string, d dial) *paho.Connect {
	most, size := uint16(receiveMaximum), uint32(maxPacket)
	p := &paho.Connect{
		ClientID:     c.cfg.ClientID,
		Username:     c.cfg.Presence,
		UsernameFlag: true,
		KeepAlive:    d.keepAlive,
		CleanStart:   true,
		Properties: &paho.ConnectProperties{
			ReceiveMaximum:     &most,
			MaximumPacketSize:  &size,
			RequestProblemInfo: true,
		},
	}
	if password != "" {
		p.Password, p.PasswordFlag = []byte(password), true
	}
	if c.cfg.UDP {
		p.Properties.User.Add(wire.PropUDP, "1")
	}
	if d.left != "" {
		p.Properties.User.Add(wire.PropLeft, d.left)
	}
	for _, where := range c.where().properties() {
		p.Properties.User.Add(where.Name, where.Value)
	}
	if c.cfg.Will != nil {
		namespace, presence, _ := wire.ParseUserName(c.cfg.Presence)
		p.WillMessage = &paho.WillMessage{Topic: wire.PresenceTopic(namespace, presence, c.cfg.ClientID), Payload: c.cfg.Will, QoS: 1}
		p.WillProperties = &paho.WillProperties{}
	}
	return p
}

// guidanceOf reads what a CONNACK or a DISCONNECT says of where to go. MQTT 5
// section 4.11: a Server Reference is a list, separated by spaces.
func guidanceOf(user paho.UserProperties, reference string) guidance {
	var g guidance
	list, listed := property(user, wire.PropServers)
	if listed {
		g.listed, g.servers = true, wire.ParseServers(list)
	}
	g.references = strings.Fields(reference)
	after, _ := property(user, wire.PropRetryAfter)
	if ms, err := strconv.ParseUint(after, 10, 32); err == nil {
		g.retryAfter = time.Duration(ms) * time.Millisecond
	}
	return g
}

func property(user paho.UserProperties, key string) (string, bool) {
	for _, p := range user {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// brokenPipe tells a connection's failure from nonsense that came over it.
func brokenPipe(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe)
}

// publish sends with QoS 1 and waits for the PUBACK. A *Refusal is the server's
// answer; any other error leaves open whether the server has it.
func (s *session) publish(ctx context.Context, topic string, payload []byte) error {
	p := &paho.Publish{Topic: topic, QoS: 1, Payload: payload}
	done, err := s.signed(ctx, p)
	if err != nil {
		return err
	}
	defer done()
	r, err := s.paho.Publish(ctx, p)
	if r != nil && r.ReasonCode >= 0x80 {
		refusal := &Refusal{Packet: "PUBACK", Code: r.ReasonCode}
		if r.Properties != nil {
			refusal.Reason = r.Properties.ReasonString
		}
		return refusal
	}
	return err
}

// subscribe asks for the messages of a filter. A *Refusal is the server's answer.
func (s *session) subscribe(ctx context.Context, filter string) error {
	r, err := s.paho.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}})
	if r != nil && len(r.Reasons) > 0 && r.Reasons[0] >= 0x80 {
		refusal := &Refusal{Packet: "SUBACK", Code: r.Reasons[0]}
		if r.Properties != nil {
			refusal.Reason = r.Properties.ReasonString
		}
		return refusal
	}
	return err
}

// close closes the connection without a DISCONNECT and waits for paho.
func (s *session) close() {
	s.bury()
	_ = s.conn.Close()
	<-s.paho.Done()
	if s.line != nil {
		_ = s.line.conn.Close()
	}
}

// goodbye leaves the server on purpose.
func (s *session) goodbye(within time.Duration) error {
	s.bury()
	if s.line != nil {
		defer func() { _ = s.line.conn.Close() }()
	}
	if s.byDatagram() {
		err := s.line.leave(within)
		<-s.paho.Done()
		return err
	}
	err := s.paho.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{}})
	<-s.paho.Done()
	return err
}

// noPinger leaves the pings to the loop.
type noPinger struct{}

func (noPinger) Run(context.Context, net.Conn, uint16) error { return nil }
func (noPinger) PacketSent()                                 {}
func (noPinger) PacketReceived()                             {}
func (noPinger) PingResp()                                   {}
func (noPinger) SetDebug(log.Logger)                         {}

// noAuth is asked when a CONNACK names an authentication method, whether or not
// CONNECT asked for one; paho calls a nil one.
type noAuth struct{}

func (noAuth) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{} }
func (noAuth) Authenticated()                     {}

// unsubscribe asks for no more messages of a filter.
func (s *session) unsubscribe(filter string) {
	_, _ = s.paho.Unsubscribe(s.life, &paho.Unsubscribe{Topics: []string{filter}}) // it ends with the session at the latest
}
