// Package server is Rollcall's heartbeat server: it holds the sessions of MQTT
// clients, answers their beats from the path that does the work, says through
// the store who is here and who has gone, and moves its clients where it is
// told to. It judges nobody.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/record"
	"github.com/rollcall-dev/rollcall/server/session"
	"github.com/rollcall-dev/rollcall/server/watch"
)

// Server is one heartbeat server.
type Server struct {
	cfg     Config
	name    string // "namespace/name"
	log     *slog.Logger
	metrics *metrics

	clock      *session.Clock
	table      *session.Table[peer]
	recorder   *record.Recorder
	carriers   []carrier // of all that it listens on
	listening  map[Listener]carrier
	udp        *udp // nil: no datagrams are taken
	directory  directory
	drain      drain
	admission  *admission
	vitals     vitals
	delayed    delayLine
	scheduling *scheduling

	hub      *watch.Hub
	watchers watchers

	descriptions descriptions
	outcomes     *outcomes

	peers      peers
	shared     shared
	addresses  addresses
	strangers  atomic.Int64 // connections without a session
	ending     atomic.Bool  // all connections end
	ended      atomic.Int64 // sessions of clients that went offline here
	reporters  atomic.Int64
	background sync.WaitGroup // reports and subscriptions under way

	running atomic.Pointer[context.Context]
	ready   atomic.Bool
	// leaving: the server is about to end, and takes nobody any more.
	leaving atomic.Bool
}

// New makes a server and takes its address; Run makes it serve.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, name: cfg.Namespace + "/" + cfg.Name,
		log:        cfg.Logger.With("server", cfg.Namespace+"/"+cfg.Name),
		clock:      session.NewClock(nil),
		listening:  map[Listener]carrier{},
		admission:  newAdmission(cfg.ConnectRate, cfg.ConnectBurst),
		drain:      drain{wake: make(chan struct{}, 1)},
		delayed:    delayLine{faults: cfg.Faults, wake: make(chan struct{}, 1)},
		scheduling: newScheduling(),
	}
	s.directory.self = s.name
	s.outcomes = newOutcomes(cfg.Registerer)
	s.table = session.NewTable[peer]()
	s.vitals.advance(s.clock.Stamp().Tick)
	var err error
	s.recorder, err = record.New(record.Config{
		Server: s.name, Incarnation: cfg.Incarnation, Store: cfg.Store,
		Gaps: func() uint32 { return s.clock.Stamp().Gaps }, Attend: s.attend, Lost: s.lost, Limit: 2 * cfg.Capacity,
		Logger: s.log, Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	if s.hub, err = newHub(&cfg); err != nil {
		return nil, err
	}
	cfg.Store.OnRewind(s.clock.Distrust) // what a packet proved was against revisions that are lost
	if err := s.listen(); err != nil {
		_ = s.Close()
		return nil, err
	}
	s.metrics = newMetrics(s, cfg.Registerer)
	return s, nil
}

// listen takes the addresses.
func (s *Server) listen() error {
	type opener func(address string, name Listener) (carrier, error)
	plain := func(a string, n Listener) (carrier, error) { return listenPlain(a, n, s.cfg.Loops, s) }
	secure := func(a string, n Listener) (carrier, error) { return listenSecure(a, n, s.cfg.TLS, s.cfg.Loops, s) }
	web := func(c *tls.Config) opener {
		return func(a string, n Listener) (carrier, error) { return listenWebSocket(a, n, c, s) }
	}
	requests := func(c *tls.Config) opener {
		return func(a string, n Listener) (carrier, error) { return listenBeats(a, n, c, s) }
	}
	balanced := plain
	if s.cfg.ListenTLS != "" {
		balanced = secure
	}
	for _, l := range []struct {
		name Listener
		open opener
	}{
		{ListenerPlain, plain}, {ListenerTLS, secure}, {ListenerBalanced, balanced},
		{ListenerWebSocket, web(nil)}, {ListenerWebSocketTLS, web(s.cfg.TLS)},
		{ListenerBeats, requests(nil)}, {ListenerBeatsTLS, requests(s.cfg.TLS)},
	} {
		address := s.cfg.address(l.name)
		if address == "" {
			continue
		}
		c, err := l.open(address, l.name)
		if err != nil {
			return err
		}
		s.listening[l.name] = c
		s.carriers = append(s.carriers, c)
	}
	if s.cfg.ListenUDP == "" {
		return nil
	}
	u, err := listenUDP(s)
	if err != nil {
		return err
	}
	s.udp = u
	return nil
}

// AddrOf is where a listener of the server listens; nil: nowhere.
func (s *Server) AddrOf(name Listener) net.Addr {
	if c := s.listening[name]; c != nil {
		return c.Addr()
	}
	return nil
}

// Addr is where the server listens for plain TCP, or else for TLS.
func (s *Server) Addr() net.Addr { return s.carriers[0].Addr() }

// AddrTLS is where the server listens for TLS, or else for plain TCP.
func (s *Server) AddrTLS() net.Addr {
	if a := s.AddrOf(ListenerTLS); a != nil {
		return a
	}
	return s.Addr()
}

// AddrWebSocket is where the server listens for WebSocket, and AddrWebSocketTLS
// for that over TLS, where it does.
func (s *Server) AddrWebSocket() net.Addr { return s.AddrOf(ListenerWebSocket) }

// AddrWebSocketTLS is where the server listens for WebSocket over TLS, where it does.
func (s *Server) AddrWebSocketTLS() net.Addr { return s.AddrOf(ListenerWebSocketTLS) }

// Close gives the addresses of a server back that was never run.
func (s *Server) Close() error {
	var errs []error
	for _, c := range s.carriers {
		errs = append(errs, c.Close())
	}
	if s.udp != nil {
		errs = append(errs, s.udp.socket.Close())
	}
	return errors.Join(errs...)
}

var errNotReady = errors.New("the server is not registered yet")

// Ready tells why clients cannot come yet, nil when they can. The store's being
// away later does not change it: beats are answered all the same.
func (s *Server) Ready() error {
	if !s.ready.Load() {
		return errNotReady
	}
	if y, ok := s.cfg.Presences.(interface{ Synced() bool }); ok && !y.Synced() {
		return errors.New("Presences are not known yet")
	}
	return nil
}

// endWithin bounds what a server does when it ends: what it has still to write,
// and giving its record up.
const endWithin = 3 * time.Second

// Run serves until the context ends. Then its clients are told to go elsewhere,
// at the pace of Config.DrainRate for as long as Config.DrainFor (0x9C), and who is
// left is told that it ends (0x8B). Its record is given up; their sessions are
// others' to take over.
func (s *Server) Run(ctx context.Context) error {
	defer func() { _ = s.Close() }()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, work := errgroup.WithContext(work)
	s.running.Store(&work)
	accepting, closeDoor := context.WithCancel(work)
	defer closeDoor()

	group.Go(func() error { return quiet(work, s.recorder.Run(work)) })
	group.Go(func() error { return s.watchServers(work) })
	group.Go(func() error { return s.watchDirectives(work) })
	group.Go(func() error { return s.patrol(work) })
	group.Go(func() error { return s.move(work) })
	group.Go(func() error { return s.revalidate(work) })
	group.Go(func() error {
		return s.delayed.run(work, s.deliverLate)
	})
	registered := make(chan *store.Registration, 1)
	group.Go(func() error { return s.announce(work, registered) })
	group.Go(func() error {
		select {
		case <-work.Done():
			return nil
		case <-s.recorder.Started():
		}
		select {
		case <-work.Done():
			return nil
		case r := <-registered:
			registered <- r
		}
		s.ready.Store(true)
		s.log.Info("Clients are let in", "address", s.Addr().String(), "incarnation", s.cfg.Incarnation)
		serving, ctx := errgroup.WithContext(accepting)
		for _, c := range s.carriers {
			serving.Go(func() error { return c.Run(ctx, s.accept) })
		}
		if s.udp != nil {
			serving.Go(func() error { return s.udp.run(ctx) })
		}
		return serving.Wait()
	})
	group.Go(func() error {
		select {
		case <-work.Done(): // a part has failed: the connections must end, for the others to
			s.ready.Store(false)
			s.dismiss()
			return nil
		case <-ctx.Done():
		}
		s.ready.Store(false)
		s.depart(work)
		closeDoor()
		s.end()
		stop()
		return nil
	})
	err := group.Wait()
	s.background.Wait()
	return err
}

// end is the orderly end: everyone is told, and what is known is written.
func (s *Server) end() {
	hints := s.directory.hints()
	s.table.Each(func(v session.View[peer]) bool {
		if v.Link != nil {
			v.Link.goodbye(mqtt.Goodbye{Reason: mqtt.ServerShuttingDown, User: refusal{servers: hints}.users()})
		}
		return true
	})
	s.dismiss() // and who has not connected yet
	s.recordDescriptions(s.descriptions.rest())
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	if err := s.recorder.Flush(ctx); err != nil {
		s.log.Warn("Not everything was written at the end", "error", err, "waiting", s.recorder.Waiting())
	}
}

// dismiss ends all connections, and those that are accepted from now on.
func (s *Server) dismiss() {
	s.ending.Store(true)
	for _, p := range s.peers.list() {
		p.bye(nil)
	}
}

// quiet is err, unless it is that the context has ended.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// ctx lives as long as the server works.
func (s *Server) ctx() context.Context {
	if c := s.running.Load(); c != nil {
		return *c
	}
	return context.Background()
}

// send sends b to a client; last closes its connection then. read is when what
// it answers was read, zero where it answers nothing.
func (s *Server) send(p *peer, b []byte, read time.Time, last bool) {
	if !s.delayed.hold(p, b, read, last) {
		s.deliver(p, b, read, last)
	}
}

func (s *Server) deliver(p *peer, b []byte, read time.Time, last bool) {
	p.deliver(b, last)
	if !read.IsZero() {
		s.vitals.observe(time.Since(read))
	}
}

// attend is the recorder's wish to hear of a client's next packets.
func (s *Server) attend(key store.SessionKey, on bool) {
	s.table.Attend(s.table.Class(key.Namespace, key.Presence, false), key.Client, on)
}

// lost ends a session that is another server's.
func (s *Server) lost(key store.SessionKey, arrival uint64, why record.Loss) {
	v, ok := s.table.Drop(s.table.Class(key.Namespace, key.Presence, false), key.Client, arrival)
	if !ok || v.Link == nil {
		return
	}
	g := mqtt.Goodbye{Reason: mqtt.SessionTakenOver}
	if why == record.Foreign {
		s.metrics.refused(whyPrincipal)
		g = mqtt.Goodbye{Reason: mqtt.NotAuthorized, Text: "the session is another principal's"}
	}
	v.Link.logAbout(v.Client, "Session was lost", "why", why.String())
	v.Link.goodbye(g)
}

// patrol ends the sessions of those who were silent too long, every tick.
func (s *Server) patrol(ctx context.Context) error {
	tick := time.NewTicker(session.TickLength)
	defer tick.Stop()
	var silent []session.View[peer]
	gaps, looked := s.clock.Gaps(), s.clock.Stamp().Tick
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		stamp := s.clock.Advance()
		if stamp.Gaps != gaps {
			gaps = stamp.Gaps
			s.log.Warn("This process was stopped or has lost its lease, nobody is held silent before now")
		}
		s.vitals.advance(stamp.Tick)
		if stamp.Tick-looked >= second {
			looked = stamp.Tick
			s.scheduling.look()
		}
		silent = s.table.Patrol(stamp.Tick, s.clock.Woke(), silent)
		now := time.Now()
		for _, v := range silent {
			s.expire(v, now, stamp.Tick)
		}
		s.recordDescriptions(s.descriptions.over(stamp.Tick))
	}
}

func (s *Server) expire(v session.View[peer], now time.Time, tick session.Tick) {
	s.metrics.expired.Inc()
	bye := mqtt.Goodbye{Reason: mqtt.KeepAliveTimeout}
	if !v.Class.Probe {
		lastSeen := now.Add(-time.Duration(tick-v.LastBeat) * session.TickLength)
		key := store.SessionKey{Namespace: v.Class.Namespace, Presence: v.Class.Presence, Client: v.Client}
		s.recordDescriptions(s.descriptions.last(key))
		s.recorder.Offline(key, v.Arrival, now, lastSeen)
		if found, known := s.cfg.Presences.Lookup(v.Class.Namespace, v.Class.Presence); known && found.Kind == Clients {
			s.ended.Add(1)
			if found.MaxSkew > 0 {
				bye.Text = fmt.Sprintf("no beat came that was signed within %v of the server's time: set the clock, if there were any", found.MaxSkew)
			}
		}
	}
	if v.Link != nil {
		v.Link.logAbout(v.Client, "Client was silent too long")
		v.Link.goodbye(bye)
	}
}

func (s *Server) watchServers(ctx context.Context) error {
	for u := range s.cfg.Store.WatchServers(ctx) {
		s.directory.update(u)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
