package sampler

import (
	"context"
	"errors"
	"log/slog"
	"math"
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
	// A glance is cheap: who waits in the queue, and a few connections. A look at all
	// connections is dear, since the kernel walks through a table of the whole node for
	// it: it is taken at first, whenever a glance finds that something waits, and to count.
	//
	// calm is the time between two glances, and doubt where one has found unread bytes:
	// they may be read at once. uneasy is the time between two looks as long as something waits.
	calm, doubt, uneasy = time.Second, 200 * time.Millisecond, 500 * time.Millisecond
	// countFirst is how soon another look is taken after the first one, and each after
	// that in twice the time, up to countLate; countSoon after all connections that
	// glances take in have ended, since from then on they see none.
	countFirst, countSoon, countLate = 2 * time.Second, 5 * time.Second, 30 * time.Second
	// A count is put off by countSoon, up to countLatest after the last one, as long as
	// the namespace has as many sockets as then, give or take a tenth, and glances see
	// the server read: at most lively ago.
	countLatest, lively = 5 * time.Minute, 15 * time.Second
	// together is how far apart watches wake up, so that one wake-up serves many.
	together = 100 * time.Millisecond
	// glanced is how many connections a glance takes in.
	glanced = 8
	// enterAgain is how soon a namespace that was not found, or in which nothing
	// listens (its pod's sandbox may have been made anew), is looked for again.
	enterAgain = 10 * time.Second
	// refusedAgain is how soon what the kernel has refused is tried again.
	refusedAgain = time.Minute
	// Another number of connections is told when it is another by a tenth, and by
	// tellBy at least, once in tellSoon; else once in tellLate.
	tellShare, tellBy  = 10, 10
	tellSoon, tellLate = 5 * time.Second, 30 * time.Second

	never time.Duration = math.MaxInt64
)

// namespace is a pod's network namespace: it is only looked at here.
type namespace interface {
	List(ctx context.Context, q sockets.Query, each func(sockets.Socket) error) error
	Look(ctx context.Context, connections []sockets.Socket, each func(sockets.Socket)) error
	InUse() (int, error)
	Close() error
}

// watch looks at one server. Its methods are its own goroutine's.
type watch struct {
	target Target
	enter  func(ctx context.Context, addresses []netip.Addr) (namespace, error)
	spared func() map[netip.Addr]bool
	// moving tells whether clients are being moved among the servers of its Presence.
	// Then all connections are counted every countFirst, and every change is told.
	moving func() bool
	// doubted tells whether the controller doubts that the server is well.
	doubted func() bool
	// open opens the pod's cgroups; nil: there are none to be seen on this node.
	open  func(Target) (cgroups, error)
	tell  func(wire.Observation)
	log   *slog.Logger
	looks func() // counts one
	// woke is told of each awakening, when it was due and when it was.
	woke func(due, now time.Time)

	strained  strained  // what is known of its cgroups
	alarmedAt time.Time // when something last began that may come to a Failover, once in countLate; zero: nothing did of late
	socketsAt time.Time // when sockets are to be looked at
	ns        namespace // nil: not entered
	enteredAt time.Time
	memory    *kernel.Server
	// worry is how many looks at all connections are to follow, because something was
	// found to wait: two after a glance, since in the first something may turn out to
	// have been read before. countAt is when to look in any case, and countIn how long
	// after that again.
	worry    int
	countAt  time.Time
	countIn  time.Duration
	lookedAt time.Time // at all connections
	inUse    int       // sockets of the namespace, then; negative: that is not known
	glance   glance
	// said is what was told last, at a time; connections of it likewise.
	said      wire.Observation
	countedAt time.Time
}

// run looks until ctx ends.
func (w *watch) run(ctx context.Context) {
	w.begin()
	defer w.leave()
	defer w.strained.leave()
	due := meeting(time.Now().Add(together + rand.N(calm))) // servers are not looked at all at once
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C: // what it brings is when it was due
		}
		now := time.Now()
		w.woke(due, now)
		wait := w.look(ctx, now)
		if wait == never {
			<-ctx.Done()
			return
		}
		wait += rand.N(wait/5) - wait/10
		due = meeting(time.Now().Add(wait))
		timer.Reset(time.Until(due))
	}
}

// meeting is the last time before t, or at it, at which watches wake up.
func meeting(t time.Time) time.Time { return t.Add(-time.Duration(t.UnixNano() % int64(together))) }

func (w *watch) begin() { w.memory = kernel.New(w.target.Window) }

// look takes one look, tells what is news, and returns when to take the next.
func (w *watch) look(ctx context.Context, now time.Time) time.Duration {
	soon := w.strain(now)
	w.alarm(now, w.strained.now.Rising || w.doubted())
	// Where cgroups are read in between, sockets keep to their own time, more or less.
	if wait := w.socketsAt.Sub(now); soon == never || wait < calm/4 {
		w.socketsAt = now.Add(w.sockets(ctx, now))
	}
	if w.said.Band != "" && w.said.Strain.Kind != string(w.strained.now.Kind) {
		w.say(w.said, now)
	}
	return min(soon, w.socketsAt.Sub(now))
}

// sockets looks at these, and returns when to do so again.
func (w *watch) sockets(ctx context.Context, now time.Time) time.Duration {
	if w.target.Refused != "" {
		w.blind(w.target.Refused, now)
		return never
	}
	if w.ns != nil && !now.Before(w.countAt) && w.unchanged(now) {
		w.countAt = now.Add(countSoon)
	}
	if w.ns != nil && w.worry == 0 && now.Before(w.countAt) && (now.Sub(w.lookedAt) < countFirst || !w.hurried(now)) {
		had := len(w.glance.chosen)
		wait, err := w.glance.take(ctx, w.ns, w.target.Port, now)
		if err != nil {
			return w.failed(ctx, err, now)
		}
		if soon := now.Add(countSoon); had > 0 && len(w.glance.chosen) == 0 && soon.Before(w.countAt) {
			w.countAt = soon
		}
		if wait > 0 {
			return wait
		}
		w.worry = 2
	}
	f, err := w.find(ctx, now)
	if err != nil {
		return w.failed(ctx, err, now)
	}
	w.found(f, now)
	if w.worry = max(w.worry-1, 0); f.Uneasy {
		w.worry = max(w.worry, 1)
	}
	w.lookedAt, w.inUse = now, w.used()
	w.countIn = min(max(2*w.countIn, countFirst), countLate)
	w.countAt = now.Add(w.countIn)
	switch {
	case f.Word == kernel.Closed && now.Sub(w.enteredAt) >= enterAgain:
		w.leave()
	case w.worry > 0:
		return uneasy
	}
	return calm
}

// unchanged tells whether another count would hardly find another number than the
// last one, and glances see what there is to be seen.
func (w *watch) unchanged(now time.Time) bool {
	if w.countIn < countLate || now.Sub(w.lookedAt) >= countLatest || now.Sub(w.glance.readAt) > lively || w.inUse < 0 {
		return false
	}
	n := w.used()
	return n >= 0 && max(n-w.inUse, w.inUse-n)*tellShare <= w.inUse
}

// used is how many sockets the namespace has; negative: that is not known.
func (w *watch) used() int {
	n, err := w.ns.InUse()
	if err != nil {
		return -1 // then nothing is put off, and all connections are counted when it is time
	}
	return n
}

// failed says why, and when to try again.
func (w *watch) failed(ctx context.Context, err error, now time.Time) time.Duration {
	if ctx.Err() != nil {
		return never
	}
	w.leave()
	w.blind(err.Error(), now)
	if errors.Is(err, sockets.ErrNotPermitted) || errors.Is(err, sockets.ErrUnsupported) {
		return refusedAgain
	}
	return enterAgain
}

func (w *watch) leave() {
	if w.ns != nil {
		_ = w.ns.Close() // nothing was written
	}
	w.ns = nil
	w.begin() // what is entered next may be another sandbox, with another process
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
	// Who listens is found at once; who is connected takes a walk for each family, and
	// most servers have one.
	var families []sockets.Family
	err := w.ns.List(ctx, sockets.Query{Port: w.target.Port, States: []sockets.State{sockets.Listen}}, func(s sockets.Socket) error {
		if !slices.Contains(families, s.Family()) {
			families = append(families, s.Family())
		}
		q := s.Queue()
		l.See(kernel.Socket{Listening: true, ID: s.Cookie, Local: s.Local, Waiting: q.Waiting, Limit: q.Limit})
		return nil
	})
	if err != nil {
		return kernel.Finding{}, err
	}
	w.glance = glance{families: families}
	if len(families) == 0 {
		return l.Done(), nil
	}
	spared := w.spared()
	q := sockets.Query{Port: w.target.Port, Families: families, States: []sockets.State{sockets.Established, sockets.CloseWait}, Info: true}
	err = w.ns.List(ctx, q, func(s sockets.Socket) error {
		if s.Info != nil {
			w.glance.consider(s, spared[s.Remote.Addr().WithZone("")])
		}
		l.See(seen(s, w.client(s, spared)))
		return nil
	})
	if err != nil {
		return kernel.Finding{}, err
	}
	return l.Done(), nil
}

// seen is a connection as it is to be judged.
func seen(s sockets.Socket, client bool) kernel.Socket {
	o := kernel.Socket{ID: s.Cookie, Accepted: s.Inode != 0, Client: client && s.State == sockets.Established}
	if s.Info == nil { // nothing is known of what was read
		return o
	}
	o.Received, o.Unread, o.SinceReceived = s.Info.Received, s.ReadQueue, s.Info.SinceReceived
	if s.State == sockets.CloseWait && o.Unread > 0 {
		// The kernel counts the other side's end as a byte. Nobody need read that: a
		// server keeps connections that it has no use for.
		o.Received, o.Unread = o.Received-min(o.Received, 1), o.Unread-1
	}
	return o
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
	if was := w.said.Connections; was != nil && !w.moving() && !worthTelling(*was, count, now.Sub(w.countedAt)) {
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

// alarm notes whether clients may have to be moved soon.
func (w *watch) alarm(now time.Time, on bool) {
	if on && w.alarmedAt.IsZero() {
		w.alarmedAt = now
	} else if !on && now.Sub(w.alarmedAt) >= countLate {
		w.alarmedAt = time.Time{}
	}
}

// hurried tells whether all connections are to be counted every countFirst: because
// clients are being moved, or may have to be, for a moment. That a Failover begins
// with a number that is true is worth that, once in a while.
func (w *watch) hurried(now time.Time) bool {
	return w.moving() || !w.alarmedAt.IsZero() && now.Sub(w.alarmedAt) < countSoon
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
	o.Strain = wire.Strain{}
	if s := w.strained.now; s.Kind != "" {
		o.Strain = wire.Strain{Kind: string(s.Kind), Detail: s.String()}
	}
	if o.Strain.Kind != w.said.Strain.Kind {
		w.log.Info("What keeps a server from running has changed", "server", w.target.Server, "kind", o.Strain.Kind, "detail", o.Strain.Detail)
	}
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
