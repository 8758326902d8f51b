package server

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/watch"
)

const (
	// maxSubscriptions is how many one connection may have.
	maxSubscriptions = 16
	// maxInFlight is how many messages of QoS 1 may await their PUBACK; fewer
	// where the client takes fewer.
	maxInFlight = 128
	// writeAtOnce is how much of what a subscriber is told is written at once, in
	// bytes: less than maxPending, so that answers have room.
	writeAtOnce = 8 << 10
	// slowAfter is how long a subscriber may take nothing of what it is sent.
	slowAfter = 10 * time.Second
	// roomEvery is how often one that takes nothing now is looked at.
	roomEvery = 10 * time.Millisecond
)

// subscriptions are a peer's.
type subscriptions struct {
	window window
	// writing is held while one of them writes: each looks first whether the client
	// has taken what the others wrote.
	writing sync.Mutex
	// all are by filter. Only the goroutine that feeds the peer looks.
	all map[string]*subscription
}

// subscription is one filter of a client.
type subscription struct {
	p     *peer
	subs  *subscriptions // that it is one of
	topic watch.Topic
	place *watch.Place
	stop  context.CancelFunc
	// principal and client are who watches; own tells that it is a Presence
	// which the client is a member of.
	principal, client string
	own               bool

	mu          sync.Mutex
	qos         byte // guarded by mu
	asPublished bool // guarded by mu

	// What follows belongs to the goroutine that follows: buf is to be written, and
	// unsent are the packet identifiers in it.

	buf    []byte
	unsent []uint16
}

func (p *peer) subscribed(frame []byte, m moment) error {
	sub, err := mqtt.ParseSubscribe(frame, p.version)
	if err != nil {
		return err
	}
	p.beat(m)
	if sub.SubscriptionID != 0 { // CONNACK has said so (section 3.2.2.3.12)
		p.refuse(refusal{why: whyFilter, reason: mqtt.SubIDNotSupported, detail: "subscription identifiers are not taken"})
		return nil
	}
	reasons := make([]mqtt.Reason, len(sub.Filters))
	var begin []func()
	for i, f := range sub.Filters {
		var start func()
		var w why
		if reasons[i], w, start = p.subscribe(f); reasons[i].Failed() {
			p.s.metrics.refused(w)
			p.log("Subscription was refused", "reason", w, "code", reasons[i].String(), "filter", f.Topic)
		}
		if start != nil {
			begin = append(begin, start)
		}
	}
	p.turn.out = mqtt.AppendSuback(p.turn.out, p.version, sub.PacketID, reasons)
	p.flush() // then what it is told
	for _, start := range begin {
		start()
	}
	return nil
}

// subscribe takes a filter; start, where there is one, begins to tell.
func (p *peer) subscribe(f mqtt.Filter) (reason mqtt.Reason, w why, start func()) {
	if strings.HasPrefix(f.Topic, "$share/") {
		return mqtt.SharedNotSupported, whyFilter, nil
	}
	namespace, presence, client, ok := wire.ParsePresenceTopic(f.Topic)
	if !ok || client == wire.EveryClient {
		return mqtt.TopicFilterInvalid, whyFilter, nil
	}
	if !p.mayWatch(namespace, presence) {
		return mqtt.NotAuthorized, whyUnauthorized, nil
	}
	granted := mqtt.Reason(min(f.QoS, 1))
	subs := p.watching()
	if held := subs.all[f.Topic]; held != nil {
		held.options(f)
		if f.Current != mqtt.RetainSend {
			return granted, "", nil
		}
		held.end() // and another is told anew who is here
		delete(subs.all, f.Topic)
	}
	if len(subs.all) >= maxSubscriptions {
		return mqtt.QuotaExceeded, whySubscriptions, nil
	}
	if client == "+" {
		client = ""
	}
	key := p.key()
	s := &subscription{
		p: p, subs: subs, topic: watch.Topic{Namespace: namespace, Presence: presence, Client: client},
		principal: p.session.Principal(), client: key.Client, own: key.Namespace == namespace && key.Presence == presence,
	}
	var err error
	if s.place, err = p.s.hub.Join(s.topic); err != nil {
		return mqtt.QuotaExceeded, whySubscriptions, nil
	}
	s.options(f)
	ctx, cancel := context.WithCancel(p.s.ctx())
	s.stop = cancel
	subs.all[f.Topic] = s
	p.s.watchers.add(s)
	return granted, "", func() {
		p.s.background.Go(func() { s.run(ctx, f.Current != mqtt.RetainDoNotSend) })
	}
}

// mayWatch tells whether the client may watch a Presence: its own by the rights
// that it was let in with, another one where the Authenticator says so.
func (p *peer) mayWatch(namespace, presence string) bool {
	found, known := p.s.cfg.Presences.Lookup(namespace, presence)
	if !known || found.Foreign {
		return false
	}
	if key := p.key(); key.Namespace == namespace && key.Presence == presence {
		return p.rights.Has(Watch)
	}
	w, ok := p.s.cfg.Authenticator.(Watchers)
	return ok && w.MayWatch(namespace, presence, p.session.Principal())
}

// watching are the peer's subscriptions, made where it has none.
func (p *peer) watching() *subscriptions {
	x := p.extra()
	if x.subscriptions == nil {
		n := maxInFlight
		if x.takes > 0 {
			n = min(n, int(x.takes))
		}
		x.subscriptions = &subscriptions{window: newWindow(n), all: map[string]*subscription{}}
	}
	return x.subscriptions
}

func (p *peer) unsubscribed(frame []byte, m moment) error {
	u, err := mqtt.ParseUnsubscribe(frame, p.version)
	if err != nil {
		return err
	}
	p.beat(m)
	reasons := make([]mqtt.Reason, len(u.Filters))
	for i, f := range u.Filters {
		reasons[i] = mqtt.NoSubscriptionExisted
		if p.more == nil || p.more.subscriptions == nil {
			continue
		}
		if s := p.more.subscriptions.all[f.Topic]; s != nil {
			s.end()
			delete(p.more.subscriptions.all, f.Topic)
			reasons[i] = mqtt.Success
		}
	}
	p.turn.out = mqtt.AppendUnsuback(p.turn.out, p.version, u.PacketID, reasons)
	return nil
}

// acknowledged takes a PUBACK.
func (p *peer) acknowledged(frame []byte, m moment) error {
	id, err := mqtt.ParseAck(frame, p.version)
	if err != nil {
		return err
	}
	p.beat(m)
	if p.more == nil || p.more.subscriptions == nil || !p.more.subscriptions.window.release(id) {
		return &mqtt.Error{Reason: mqtt.ProtocolError, Detail: "a PUBACK of nothing that was sent"}
	}
	return nil
}

// unwatch ends all subscriptions of a peer that is gone.
func (p *peer) unwatch() {
	if p.more == nil || p.more.subscriptions == nil {
		return
	}
	for _, s := range p.more.subscriptions.all {
		s.end()
	}
}

func (s *subscription) options(f mqtt.Filter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.qos, s.asPublished = min(f.QoS, 1), f.AsPublished
}

// end ends it, and waits for no client. It writes nothing from then on.
func (s *subscription) end() {
	s.subs.writing.Lock()
	s.stop()
	s.subs.writing.Unlock()
	s.p.s.watchers.remove(s)
}

var errGone = errors.New("the client is gone")

// run tells the client until the subscription ends.
func (s *subscription) run(ctx context.Context, current bool) {
	defer s.place.Leave()
	s.over(ctx, s.place.Follow(ctx, current, s))
}

// over is the end of telling: what was not sent takes nothing of what may be in
// flight, and a client that cannot be told any more is cut off.
func (s *subscription) over(ctx context.Context, err error) {
	for _, id := range s.unsent {
		s.subs.window.release(id)
	}
	if ctx.Err() != nil || errors.Is(err, errGone) {
		return
	}
	w, text := whyStore, "who is here cannot be told now"
	if errors.Is(err, watch.ErrBehind) {
		w, text = whySlow, "what was sent is read too slowly"
	}
	s.p.s.metrics.refused(w)
	s.p.logAbout(s.client, "Subscriber was cut off", "reason", w, "detail", err.Error())
	s.p.goodbye(mqtt.Goodbye{Reason: mqtt.QuotaExceeded, Text: text})
}

// Send sends a message, with others where they follow soon.
func (s *subscription) Send(ctx context.Context, m watch.Message) error {
	s.mu.Lock()
	qos, asPublished := s.qos, s.asPublished
	s.mu.Unlock()
	out := mqtt.Message{
		Topic:   wire.PresenceTopic(s.topic.Namespace, s.topic.Presence, m.Client),
		Payload: m.Payload, Retain: m.Current || asPublished && m.Will == 0,
	}
	if m.Will != 0 {
		out.User = []mqtt.User{{Name: wire.PropWill, Value: revision(m.Will)}}
	}
	if qos > 0 {
		id, ok := s.subs.window.try()
		if !ok {
			if err := s.Flush(ctx); err != nil {
				return err
			}
			var err error
			if id, err = s.subs.window.wait(ctx); err != nil {
				return err
			}
		}
		out.PacketID = id
	}
	var fits bool
	if s.buf, fits = out.Append(s.buf, s.p.version, s.p.limit); !fits {
		s.p.s.metrics.refused(whyTooLarge)
		s.subs.window.release(out.PacketID)
	} else if qos > 0 {
		s.unsent = append(s.unsent, out.PacketID)
	}
	if len(s.buf) >= writeAtOnce {
		return s.Flush(ctx)
	}
	return nil
}

// Flush writes what was sent, once the client has taken what was written before.
func (s *subscription) Flush(ctx context.Context) error {
	if len(s.buf) == 0 {
		return nil
	}
	var again *time.Ticker
	var begun time.Time
	for {
		switch written, err := s.write(ctx); {
		case err != nil || written:
			return err
		case again == nil:
			again, begun = time.NewTicker(roomEvery), time.Now()
			defer again.Stop()
		case time.Since(begun) > slowAfter:
			return watch.ErrBehind
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

// write writes what was sent if the client has taken all that was written before.
func (s *subscription) write(ctx context.Context) (written bool, err error) {
	s.subs.writing.Lock()
	defer s.subs.writing.Unlock()
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case s.p.leaving.Load():
		return false, errGone
	case s.p.link.unsent() > 0:
		return false, nil
	}
	s.p.s.send(s.p, s.buf, time.Time{}, false)
	s.buf, s.unsent = s.buf[:0], s.unsent[:0]
	if cap(s.buf) > 2*writeAtOnce {
		s.buf = nil
	}
	return true, nil
}

// watchers are all subscriptions of a server.
type watchers struct {
	mu  sync.Mutex
	all map[*subscription]struct{}
}

func (w *watchers) add(s *subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[*subscription]struct{}{}
	}
	w.all[s] = struct{}{}
}

func (w *watchers) remove(s *subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, s)
}

func (w *watchers) list() []*subscription {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := make([]*subscription, 0, len(w.all))
	for s := range w.all {
		l = append(l, s)
	}
	return l
}

// stillMay ends the connections of those who may no longer watch what they do.
func (s *Server) stillMay() {
	w, ok := s.cfg.Authenticator.(Watchers)
	for _, sub := range s.watchers.list() {
		if sub.own {
			continue // the session itself lives by the right: sweep
		}
		if !ok || !w.MayWatch(sub.topic.Namespace, sub.topic.Presence, sub.principal) {
			s.metrics.revoked.Inc()
			sub.p.logAbout(sub.client, "Subscriber was sent away, a right was taken back")
			sub.p.goodbye(mqtt.Goodbye{Reason: mqtt.NotAuthorized, Text: "the right to watch was taken back"})
		}
	}
}

// newHub is what tells who is here.
func newHub(cfg *Config) (*watch.Hub, error) {
	return watch.New(watch.Config{Store: cfg.Store, Logger: cfg.Logger})
}

var _ watch.Store = (*store.Store)(nil)
