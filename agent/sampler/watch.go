package sampler

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/rollcall-dev/rollcall/internal/kernel"
	"github.com/rollcall-dev/rollcall/internal/sockets"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// uneasy is the time between two looks at a server on which something waits, and
	// calm that at one where nothing does.
	uneasy, calm = 500 * time.Millisecond, time.Second
	// enterAgain is how soon a namespace that was not found, or in which nothing
	// listens (its pod's sandbox may have been made anew), is looked for again.
	enterAgain = 10 * time.Second
	// refusedAgain is how soon what the kernel has refused is tried again.
	refusedAgain = time.Minute
	// Another number of connections is told when it is another by a tenth, and by
	// tellBy at least, once in tellSoon; else once in tellLate.
	tellShare, tellBy  = 10, 10
	tellSoon, tellLate = 5 * time.Second, 30 * time.Second
)

// namespace is a pod's network namespace: it is only looked at here.
type namespace interface {
	List(ctx context.Context, q sockets.Query, each func(sockets.Socket) error) error
	Close() error
}

// watch looks at one server. Its methods are its own goroutine's.
type watch struct {
	target Target
	enter  func(ctx context.Context, addresses []netip.Addr) (namespace, error)
	spared func() map[netip.Addr]bool
	tell   func(wire.Observation)
	log    *slog.Logger
	looks  func() // counts one

	ns        namespace // nil: not entered
	enteredAt time.Time
	memory    *kernel.Server
	// said is what was told last, at a time; connections of it likewise.
	said      wire.Observation
	countedAt time.Time
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) {
	w.begin()
	defer w.leave()
	timer := time.NewTimer(rand.N(calm)) // servers are not looked at all at once
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-timer.C:
			wait := w.look(ctx, now)
			if wait == 0 {
				<-ctx.Done()
				return
			}
			timer.Reset(wait - wait/10 + rand.N(wait/5))
		}
	}
}

func (w *watch) begin() { w.memory = kernel.New(w.target.Window) }

// look takes one look, tells what is news, and returns when to take the next; zero: never.
func (w *watch) look(ctx context.Context, now time.Time) time.Duration {
	if w.target.Refused != "" {
		w.blind(w.target.Refused, now)
		return 0
	}
	f, err := w.find(ctx, now)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return 0
	default:
		w.leave()
		w.blind(err.Error(), now)
		if errors.Is(err, sockets.ErrNotPermitted) || errors.Is(err, sockets.ErrUnsupported) {
			return refusedAgain
		}
		return enterAgain
	}
	w.found(f, now)
	switch {
	case f.Word == kernel.Closed && now.Sub(w.enteredAt) >= enterAgain:
		w.leave()
	case f.Uneasy:
		return uneasy
	}
	return calm
}

func (w *watch) leave() {
	if w.ns != nil {
		_ = w.ns.Close() // nothing was written
	}
	w.ns = nil
}

// find takes one look at all sockets of the port.
func (w *watch) find(ctx context.Context, now time.Time) (kernel.Finding, error) {
	if w.ns == nil {
		ns, err := w.enter(ctx, w.target.Addresses)
		if err != nil {
			return kernel.Finding{}, err
		}
		w.ns, w.enteredAt = ns, now
	}
	w.looks()
	l := w.memory.Look(now)
	// The kernel finds who listens at once, and walks through a table of the whole
	// node to find connections, for each family: most servers have one.
	var families []sockets.Family
	err := w.ns.List(ctx, sockets.Query{Port: w.target.Port, States: []sockets.State{sockets.Listen}}, func(s sockets.Socket) error {
		if !slices.Contains(families, s.Family()) {
			families = append(families, s.Family())
		}
		q := s.Queue()
		l.See(kernel.Socket{Listening: true, Local: s.Local, Waiting: q.Waiting, Limit: q.Limit})
		return nil
	})
	if err != nil {
		return kernel.Finding{}, err
	}
	spared := w.spared()
	err = w.ns.List(ctx, sockets.Query{Port: w.target.Port, Families: families, Info: true}, func(s sockets.Socket) error {
		o := kernel.Socket{ID: s.Cookie(), Client: w.client(s, spared)}
		if s.Info != nil { // without it nothing is known of what was read
			o.Received, o.Unread = s.Info.Received, s.ReadQueue
		}
		l.See(o)
		return nil
	})
	if err != nil {
		return kernel.Finding{}, err
	}
	return l.Done(), nil
}

// client tells whether a connection is neither an observer's nor the pod's with itself.
func (w *watch) client(s sockets.Socket, spared map[netip.Addr]bool) bool {
	remote := s.Remote.Addr().WithZone("")
	return !remote.IsLoopback() && !spared[remote] && !slices.Contains(w.target.Addresses, remote)
}

// bands of the kernel's words. Who is idle and who reads are both well: which of
// them it is changes all the time.
var bands = map[kernel.Word]wire.Band{
	kernel.Idle: wire.BandOK, kernel.Reading: wire.BandOK,
	kernel.QueueFull: wire.BandQueueFull, kernel.Unread: wire.BandUnread, kernel.Closed: wire.BandClosed,
}

func (w *watch) found(f kernel.Finding, now time.Time) {
	o := w.observation(bands[f.Word], f.Detail)
	count := f.Connections
	if was := w.said.Connections; was != nil && !worthTelling(*was, count, now.Sub(w.countedAt)) {
		count = *was
	}
	o.Connections = &count
	if w.said.Connections == nil || *w.said.Connections != count {
		w.countedAt = now
	}
	w.say(o, now)
}

// worthTelling tells whether a number of connections is, so long after the last one was told.
func worthTelling(told, count int, since time.Duration) bool {
	change := max(told-count, count-told)
	return since >= tellLate || since >= tellSoon && change >= tellBy && change*tellShare >= told
}

func (w *watch) blind(why string, now time.Time) { w.say(w.observation(wire.BandBlind, why), now) }

func (w *watch) observation(band wire.Band, detail string) wire.Observation {
	o := wire.Observation{Band: band, Detail: detail, Incarnation: string(w.target.UID)}
	if len(w.target.Addresses) > 0 {
		o.Address = net.JoinHostPort(w.target.Addresses[0].String(), strconv.Itoa(int(w.target.Port)))
	}
	return o
}

// say tells an observation; the board knows what of it is news.
func (w *watch) say(o wire.Observation, now time.Time) {
	changed := o.Band != w.said.Band
	o.Since = w.said.Since
	if changed || o.Band == wire.BandBlind && o.Detail != w.said.Detail {
		o.Since = now
	}
	if changed && (o.Band != wire.BandOK || w.said.Band != "") {
		w.log.Info("The kernel's word on a server has changed", "server", w.target.Server, "word", o.Band, "detail", o.Detail)
	}
	w.said = o
	w.tell(o)
}
