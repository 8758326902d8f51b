package sampler

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/kernel"
	"github.com/rollcall-dev/rollcall/internal/sockets"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// played is a pod's network namespace that does as it is told.
type played struct {
	queue   sockets.Queue
	clients []string // remote addresses
	fails   error
	closed  int
	asked   []sockets.Query
	// received and read are those of each client; got counts the looks at one.
	received, read uint64
	got            int
	uncounted      bool // nobody knows how many sockets there are
}

func (p *played) List(_ context.Context, q sockets.Query, each func(sockets.Socket) error) error {
	p.asked = append(p.asked, q)
	if p.fails != nil {
		return p.fails
	}
	local := netip.MustParseAddrPort("10.0.0.1:8080")
	if slices.Contains(q.States, sockets.Listen) {
		return each(sockets.Socket{State: sockets.Listen, Local: local, ReadQueue: p.queue.Waiting, WriteQueue: p.queue.Limit})
	}
	for _, c := range p.clients {
		if err := each(p.socket(c)); err != nil {
			return err
		}
	}
	return nil
}

func (p *played) Look(_ context.Context, connections []sockets.Socket, each func(sockets.Socket)) error {
	for _, s := range connections {
		p.got++
		if slices.Contains(p.clients, s.Remote.String()) {
			each(p.socket(s.Remote.String()))
		}
	}
	return nil
}

func (p *played) InUse() (int, error) {
	if p.uncounted {
		return 0, sockets.ErrUnsupported
	}
	return len(p.clients) + 1, nil
}

// socket of a client.
func (p *played) socket(remote string) sockets.Socket {
	from := netip.MustParseAddrPort(remote)
	address := from.Addr().As16()
	s := sockets.Socket{
		State: sockets.Established, Local: netip.MustParseAddrPort("10.0.0.1:8080"), Remote: from,
		Inode: 1, Cookie: uint64(binary.BigEndian.Uint32(address[12:]))<<16 | uint64(from.Port()), Info: &sockets.Info{Received: p.received},
	}
	s.ReadQueue = uint32(p.received - p.read)
	return s
}

func (p *played) Close() error {
	p.closed++
	return nil
}

func newWatch(p *played) (w *watch, told *[]wire.Observation) {
	told = &[]wire.Observation{}
	w = &watch{
		target: Target{Server: "shop/web-0", UID: "u", Port: 8080, Window: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
		enter: func(context.Context, []netip.Addr) (namespace, error) {
			if errors.Is(p.fails, sockets.ErrNoNamespace) {
				return nil, p.fails
			}
			return p, nil
		},
		spared: func() map[netip.Addr]bool { return map[netip.Addr]bool{netip.MustParseAddr("10.0.9.9"): true} },
		moving: func() bool { return false }, doubted: func() bool { return false },
		tell: func(o wire.Observation) { *told = append(*told, o) },
		log:  slog.New(slog.DiscardHandler), looks: func() {}, woke: func(time.Time, time.Time) {},
	}
	w.begin()
	return w, told
}

func TestOnlyClientsAreCounted(t *testing.T) {
	p := &played{queue: sockets.Queue{Limit: 8}, clients: []string{
		"10.0.0.7:1", "10.0.0.8:1", "[fd00::7]:1", // clients
		"10.0.9.9:1", "127.0.0.1:1", "[::1]:1", "10.0.0.1:1", // an observer, loopback, the pod itself
	}}
	w, told := newWatch(p)
	if wait := w.look(t.Context(), time.Unix(1, 0)); wait != calm {
		t.Errorf("the next look is in %v", wait)
	}
	o := (*told)[0]
	if o.Band != wire.BandOK || o.Connections == nil || *o.Connections != 3 || o.Incarnation != "u" || o.Address != "10.0.0.1:8080" || !o.Since.Equal(time.Unix(1, 0)) {
		t.Errorf("told is %+v", o)
	}
	// Who listens is asked of both families, who is connected of those that listen.
	if len(p.asked) != 2 || p.asked[0].Families != nil || len(p.asked[1].Families) != 1 || !p.asked[1].Info || p.asked[1].Port != 8080 {
		t.Errorf("asked is %+v", p.asked)
	}
}

func TestWhileClientsAreMovedEveryChangeIsTold(t *testing.T) {
	p := &played{queue: sockets.Queue{Limit: 8}, clients: []string{"10.0.0.7:1"}}
	w, told := newWatch(p)
	w.moving = func() bool { return true }
	for n := range 3 {
		if wait := w.look(t.Context(), time.Unix(1, 0).Add(time.Duration(n)*countFirst)); wait != calm {
			t.Errorf("the next look is in %v", wait)
		}
		if o := (*told)[len(*told)-1]; len(*told) != n+1 || *o.Connections != n+1 {
			t.Errorf("after look %d told is %+v", n, *told)
		}
		p.clients = append(p.clients, fmt.Sprintf("10.0.0.8:%d", n+1))
	}
}

func TestAFullQueueIsLookedAtSooner(t *testing.T) {
	p := &played{queue: sockets.Queue{Waiting: 9, Limit: 8}, clients: []string{"10.0.0.7:1"}}
	w, told := newWatch(p)
	now := time.Unix(1, 0)
	for range 4 {
		p.received, p.read = p.received+1, p.read+1
		if wait := w.look(t.Context(), now); wait != uneasy {
			t.Fatalf("the next look is in %v", wait)
		}
		now = now.Add(uneasy)
	}
	last := (*told)[len(*told)-1]
	if (*told)[0].Band != wire.BandOK || last.Band != wire.BandQueueFull || !last.Since.Equal(time.Unix(2, 0)) || last.Detail == "" {
		t.Errorf("told is %+v", *told)
	}
}

// Who has ended its side is not a client any more, and that it has is no byte that a
// server must read.
func TestTheEndOfAConnectionIsNoByte(t *testing.T) {
	for _, tt := range []struct {
		name   string
		socket sockets.Socket
		want   kernel.Socket
	}{
		{"it lasts", sockets.Socket{State: sockets.Established, Inode: 1, ReadQueue: 3, Info: &sockets.Info{Received: 5, SinceReceived: time.Second}},
			kernel.Socket{Received: 5, Unread: 3, SinceReceived: time.Second, Accepted: true, Client: true}},
		{"it waits to be accepted", sockets.Socket{State: sockets.Established, Info: &sockets.Info{}}, kernel.Socket{Client: true}},
		{"its end is unread", sockets.Socket{State: sockets.CloseWait, Inode: 1, ReadQueue: 1, Info: &sockets.Info{Received: 6}},
			kernel.Socket{Received: 5, Accepted: true}},
		{"more is", sockets.Socket{State: sockets.CloseWait, Inode: 1, ReadQueue: 4, Info: &sockets.Info{Received: 6}},
			kernel.Socket{Received: 5, Unread: 3, Accepted: true}},
		{"its end was read", sockets.Socket{State: sockets.CloseWait, Inode: 1, Info: &sockets.Info{Received: 6}},
			kernel.Socket{Received: 6, Accepted: true}},
		{"nothing is known of it", sockets.Socket{State: sockets.CloseWait, Inode: 1, ReadQueue: 4}, kernel.Socket{Accepted: true}},
	} {
		if got := seen(tt.socket, true); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestWhyAKernelCannotBeAskedIsSaid(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fails   error
		refused string
		again   time.Duration
		want    string
	}{
		{"no namespace", fmt.Errorf("looking: %w", sockets.ErrNoNamespace), "", enterAgain, "looking: " + sockets.ErrNoNamespace.Error()},
		{"no privilege", sockets.ErrNotPermitted, "", refusedAgain, sockets.ErrNotPermitted.Error()},
		{"a kernel that can't", sockets.ErrUnsupported, "", refusedAgain, sockets.ErrUnsupported.Error()},
		{"a pod that is refused", nil, "take hostNetwork off it", never, "take hostNetwork off it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &played{queue: sockets.Queue{Limit: 8}, fails: tt.fails}
			w, told := newWatch(p)
			w.target.Refused = tt.refused
			if wait := w.look(t.Context(), time.Unix(1, 0)); wait != tt.again {
				t.Errorf("the next look is in %v, want %v", wait, tt.again)
			}
			if o := (*told)[0]; len(*told) != 1 || o.Band != wire.BandBlind || o.Detail != tt.want || o.Connections != nil {
				t.Errorf("told is %+v", *told)
			}
			if tt.fails == nil {
				return
			}
			p.fails = nil
			w.look(t.Context(), time.Unix(20, 0))
			if o := (*told)[1]; o.Band != wire.BandOK || !o.Since.Equal(time.Unix(20, 0)) {
				t.Errorf("when it can, told is %+v", o)
			}
		})
	}
}

// What is seen may be what an earlier sandbox of the pod has left.
func TestANamespaceInWhichNobodyListensIsEnteredAnew(t *testing.T) {
	p := &played{queue: sockets.Queue{Limit: 8}}
	w, _ := newWatch(p)
	deaf := namespaceFunc(func(q sockets.Query) error { return nil })
	entered := 0
	w.enter = func(context.Context, []netip.Addr) (namespace, error) { entered++; return deaf, nil }
	now := time.Unix(1, 0)
	for range 25 {
		w.look(t.Context(), now)
		now = now.Add(calm)
	}
	if entered != 3 {
		t.Errorf("it is entered %d times in 25 s, want 3", entered)
	}
}

// A new sandbox, or the first look after a while in which none was possible, may be of another process.
func TestWhatWasSeenInANamespaceThatWasLeftIsForgotten(t *testing.T) {
	p := &played{queue: sockets.Queue{Limit: 8}, clients: []string{"10.0.0.7:1", "10.0.0.8:1"}}
	w, told := newWatch(p)
	now := time.Unix(1, 0)
	for range 5 {
		p.received, p.read = p.received+1, p.read+1
		now = now.Add(w.look(t.Context(), now))
	}
	p.fails = errors.New("interrupted")
	now = now.Add(w.look(t.Context(), now))
	p.fails = nil
	p.clients = []string{"10.0.0.7:2", "10.0.0.8:2"}
	p.received, p.read = 0, 0
	w.look(t.Context(), now)
	p.received = 1
	for range 20 {
		now = now.Add(uneasy)
		w.look(t.Context(), now)
		if o := (*told)[len(*told)-1]; o.Band != wire.BandOK {
			t.Fatalf("told is %+v", o)
		}
	}
	if p.closed != 1 {
		t.Errorf("it was left %d times", p.closed)
	}
}

type namespaceFunc func(sockets.Query) error

func (f namespaceFunc) List(_ context.Context, q sockets.Query, _ func(sockets.Socket) error) error {
	return f(q)
}
func (namespaceFunc) Look(context.Context, []sockets.Socket, func(sockets.Socket)) error { return nil }
func (namespaceFunc) InUse() (int, error)                                                { return 0, sockets.ErrUnsupported }
func (namespaceFunc) Close() error                                                       { return nil }

// walks counts the looks at all connections.
func (p *played) walks() int {
	n := 0
	for _, q := range p.asked {
		if !slices.Contains(q.States, sockets.Listen) {
			n++
		}
	}
	return n
}

func TestAllConnectionsAreLookedAtOnlyWhenSomethingWaits(t *testing.T) {
	p := &played{queue: sockets.Queue{Limit: 8}, clients: []string{"10.0.0.7:1", "10.0.0.8:1", "10.0.9.9:1"}}
	w, told := newWatch(p)
	now := time.Unix(1, 0)
	play := func(looks int, each func()) (wait time.Duration) {
		for range looks {
			each()
			wait = w.look(t.Context(), now)
			now = now.Add(wait)
		}
		return wait
	}
	well := func() { p.received += 5; p.read = p.received }
	play(600, well)
	if n := p.walks(); n < 6 || n > 8 {
		t.Errorf("in 10 minutes of which nothing is to be said there are %d", n)
	}
	if p.got < 3*500 {
		t.Errorf("single ones are looked at %d times", p.got)
	}
	// Unread for a moment: the server reads before anybody looks again.
	before := p.walks()
	play(60, func() {
		p.received += 5
		p.read = p.received - p.received%2*5
	})
	if n := p.walks() - before; n > 4 {
		t.Errorf("of bytes that wait for a moment come %d", n)
	}
	if o := (*told)[len(*told)-1]; o.Band != wire.BandOK {
		t.Errorf("said is %+v", o)
	}
	// It stops.
	play(5, well)
	began := now
	for now.Sub(began) < 5*time.Second && (*told)[len(*told)-1].Band != wire.BandUnread {
		play(1, func() { p.received++ })
	}
	if took := now.Sub(began); took > calm+doubt+w.target.Window+kernel.ReadWithin+2*uneasy {
		t.Errorf("it takes %v, and said is %+v", took, (*told)[len(*told)-1])
	}
	if wait := play(1, func() { p.received++ }); wait != uneasy {
		t.Errorf("the next look is in %v", wait)
	}
	play(3, well)
	if o, wait := (*told)[len(*told)-1], play(1, well); o.Band != wire.BandOK || wait != calm {
		t.Errorf("when it reads again said is %+v, and the next look is in %v", o, wait)
	}
}

func TestAGlanceTakesInWhomItIsWorth(t *testing.T) {
	var g glance
	for n := range 20 {
		g.consider(sockets.Socket{State: sockets.Established, Inode: 1, ReadQueue: uint32(n % 2), Info: &sockets.Info{SinceReceived: time.Duration(20-n) * time.Second}}, n == 4 || n == 5)
	}
	g.consider(sockets.Socket{State: sockets.Established, Info: &sockets.Info{}}, true)         // it waits to be accepted
	g.consider(sockets.Socket{State: sockets.CloseWait, Inode: 1, Info: &sockets.Info{}}, true) // nothing more comes on it
	var got []int
	for _, c := range g.chosen {
		got = append(got, 20-int(c.socket.Info.SinceReceived/time.Second))
	}
	if fmt.Sprint(got) != "[4 18 16 14 12 10 8 6]" {
		t.Errorf("chosen are %v", got)
	}
}

func TestConnectionsAreCountedAgainWhenTheirNumberMayBeAnotherOrNothingIsSeenToBeRead(t *testing.T) {
	come := func(n int) func(*played) {
		return func(p *played) {
			for i := range n {
				p.clients = append(p.clients, fmt.Sprintf("10.0.1.%d:1", i+1))
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*played)
		quiet  bool // nothing comes on connections after that
		// soon is how often all are looked at in the next countLate, and later in the
		// countLatest after that.
		soon, later int
	}{
		{"nothing", come(0), false, 0, 1},
		{"a twentieth more", come(1), false, 0, 1},
		{"more than a tenth more", come(3), false, 1, 1},
		{"nobody can tell", func(p *played) { p.uncounted = true }, false, 1, 10},
		{"nothing comes any more", come(0), true, 1, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &played{queue: sockets.Queue{Limit: 8}}
			for n := range 20 {
				p.clients = append(p.clients, fmt.Sprintf("10.0.0.%d:1", n+10))
			}
			w, _ := newWatch(p)
			now, quiet := time.Unix(1, 0), false
			play := func(d time.Duration) (walks int) {
				before := p.walks()
				for end := now.Add(d); now.Before(end); {
					if !quiet {
						p.received, p.read = p.received+1, p.read+1
					}
					now = now.Add(w.look(t.Context(), now))
				}
				return p.walks() - before
			}
			play(2 * time.Minute)
			c.change(p)
			quiet = c.quiet
			if n := play(countLate); n != c.soon {
				t.Errorf("soon all are looked at %d times, want %d", n, c.soon)
			}
			if n := play(countLatest); n < c.later || n > c.later+1 {
				t.Errorf("later all are looked at %d times, want %d", n, c.later)
			}
			if *w.said.Connections != len(p.clients) {
				t.Errorf("said are %d connections of %d", *w.said.Connections, len(p.clients))
			}
		})
	}
}

// Who has nothing left to glance at would see nothing for as long as all is counted seldom.
func TestWhenAllThatAGlanceTakesInHaveEndedOthersAreChosenSoon(t *testing.T) {
	p := &played{queue: sockets.Queue{Limit: 8}, clients: []string{"10.0.0.7:1", "10.0.0.8:1"}}
	w, _ := newWatch(p)
	now := time.Unix(1, 0)
	play := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); {
			p.received, p.read = p.received+1, p.read+1
			now = now.Add(w.look(t.Context(), now))
		}
	}
	play(10 * time.Minute)
	for w.countAt.Sub(now) < countLate-5*time.Second { // right after they were counted
		play(calm)
	}
	before := p.walks()
	p.clients = []string{"10.0.0.7:2", "10.0.0.8:2"}
	play(countSoon + 2*calm)
	if n := p.walks() - before; n != 1 || len(w.glance.chosen) != 2 {
		t.Errorf("all are looked at %d times, and %d are glanced at", n, len(w.glance.chosen))
	}
	p.clients = nil
	before = p.walks()
	play(countLate)
	if n := p.walks() - before; n > 2 {
		t.Errorf("where nobody comes any more all are looked at %d times in %v", n, countLate)
	}
}

func TestANumberOfConnectionsIsToldWhenItIsWorthIt(t *testing.T) {
	for _, tt := range []struct {
		told, count int
		since       time.Duration
		want        bool
	}{
		{100, 100, time.Second, false},
		{100, 110, tellSoon, true},
		{100, 90, tellSoon, true},
		{100, 200, tellSoon - 1, false}, // too soon after the last
		{100, 109, tellSoon, false},
		{5, 9, tellSoon, false}, // twice as many, and few all the same
		{1000, 1099, tellSoon, false},
		{1000, 1099, tellLate, true},
		{0, 10, tellSoon, true},
	} {
		if got := worthTelling(tt.told, tt.count, tt.since); got != tt.want {
			t.Errorf("%d after %d, %v later: %v", tt.count, tt.told, tt.since, got)
		}
	}
	// In all that time what is told stays as it was, so that nothing is written.
	p := &played{queue: sockets.Queue{Limit: 8}, clients: []string{"10.0.0.7:1"}}
	w, told := newWatch(p)
	w.look(t.Context(), time.Unix(1, 0))
	p.clients = append(p.clients, "10.0.0.8:1")
	w.look(t.Context(), time.Unix(30, 0))
	w.look(t.Context(), time.Unix(35, 0))
	w.look(t.Context(), time.Unix(60, 0))
	var counts []int
	for _, o := range *told {
		counts = append(counts, *o.Connections)
	}
	if fmt.Sprint(counts) != "[1 1 2 2]" {
		t.Errorf("told is %v", counts)
	}
}
