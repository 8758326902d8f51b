// Package kernel decides what a server's own kernel says of it, from successive
// looks at the sockets of its port: whether it takes the connections that wait for
// it, and whether it reads what has arrived. It is pure: sockets and the time go
// in, a finding comes out.
//
// A kernel speaks for the machine and against the program: it goes on accepting and
// acknowledging for a process that is stopped. So it can prove that a server does
// nothing, and never that it does what its clients want. In doubt it accuses nobody:
//
//   - What is read from any connection, by anyone, absolves: a server that is slow,
//     or stuck on some connections, is not one that hangs.
//   - Bytes that were unread before something was last read accuse nobody: who
//     pipelines requests, or is never listened to, waits for an answer, not for a reader.
//   - One connection is one client's matter. Two must wait.
//   - Nothing is said of a server that has not been seen to read.
//   - Who takes one that waits in a full queue accepts, however many wait behind it.
//   - Who is not asked anything is idle.
package kernel

import (
	"fmt"
	"net/netip"
	"time"
)

// Word is what the kernel says of a server.
type Word string

// The words.
const (
	// Idle: nothing is unread, and nothing was read of late.
	Idle Word = "idle"
	// Reading: something was read of late, or is about to be.
	Reading Word = "reading"
	// QueueFull: so many wait to be accepted that nobody else may, and none of them
	// was accepted, for the window.
	QueueFull Word = "queueFull"
	// Unread: what has arrived on two connections at least waits to be read, and
	// for as long nothing was read from any.
	Unread Word = "unread"
	// Closed: nothing listens on the port.
	Closed Word = "closed"
)

// Hung tells whether a word is that of a server that does nothing.
func (w Word) Hung() bool { return w == QueueFull || w == Unread }

const (
	// ReadWithin is what is granted a server beyond the window to read what has
	// arrived: pauses of a second and more are ordinary where processors are short.
	ReadWithin = time.Second
	// longestStep is how much time may lie between two looks for it to count. After
	// more all clocks begin anew: nobody knows what was in between, and who was held up
	// must not take that for the server's time.
	longestStep = 2 * time.Second
	// tracked is how many connections are remembered; beyond it a sample is. As many
	// of those that wait to be accepted are.
	tracked = 2048
	// listeners is of how many listening sockets' addresses queues are added up.
	listeners = 64
	// leastStuck connections must wait.
	leastStuck = 2
)

// Socket is one of a server's port.
type Socket struct {
	// Listening: ID, Local, Waiting and Limit are set; else ID and the rest.
	Listening bool
	// ID is never given to two.
	ID uint64
	// Local address; the queues of several sockets of one address are one.
	Local          netip.AddrPort
	Waiting, Limit uint32

	// Received is how many bytes have arrived since it began, and Unread how many of
	// these the process has not read.
	Received uint64
	Unread   uint32
	// SinceReceived is how long ago something last arrived; of no account where
	// Received is 0.
	SinceReceived time.Duration
	// Accepted: it waits in no queue.
	Accepted bool
	// Client: it counts as a client's.
	Client bool
}

// Finding is the outcome of a look.
type Finding struct {
	Word Word
	// Detail in words.
	Detail string
	// Connections of clients.
	Connections int
	// Uneasy: something waits, and nothing was read since the last look, so that it is
	// worth to look again soon.
	Uneasy bool
}

// Server is what is remembered of one server from one look to the next. It is not
// safe for concurrent use.
type Server struct {
	window      time.Duration
	connections map[uint64]connection
	// level: connections of 1 in 2^level are tracked.
	level uint
	looks uint64
	at    time.Time // of the last whole look
	// wasFull: the queue was full at the last look, and full is for how long it was,
	// and nobody in it was accepted. queued are those, tracked of them at most.
	wasFull bool
	full    time.Duration
	queued  map[uint64]bool
	// listening are the sockets that did at the last look, as many as listeners.
	listening map[uint64]bool
	// reads: it has been seen to read, and quiet is for how long it has not since.
	reads bool
	quiet time.Duration
}

// connection that is tracked.
type connection struct {
	read uint64 // bytes that the process has read
	// waiting: bytes are unread; stuck is for how long some were, and none was read.
	waiting bool
	stuck   time.Duration
	// old: it has waited since before the clocks began, nobody knows for how long, and
	// counts for nothing until it is read.
	old  bool
	look uint64 // in which it was seen last
}

// New makes a Server of which nothing is known. window is the Presence's.
func New(window time.Duration) *Server {
	return &Server{window: window, connections: map[uint64]connection{}}
}

// Look is one look at all the sockets of a server's port. One that is not brought
// to its end is forgotten.
type Look struct {
	s     *Server
	now   time.Time
	step  time.Duration
	first bool
	fresh bool // too long after the last one, or before it

	queues    map[netip.AddrPort]queue
	listening map[uint64]bool
	// same: one of them listened at the last look.
	same    bool
	clients int
	all     int
	unread  uint64 // bytes
	waiting int    // connections with unread bytes
	read    bool
	// queued are those that wait to be accepted.
	queued map[uint64]bool
}

type queue struct{ waiting, limit uint64 }

// full tells whether nobody else may wait: Linux lets one more in than the limit says
// (sk_acceptq_is_full).
func (q queue) full() bool { return q.waiting > q.limit }

// Look begins one.
func (s *Server) Look(now time.Time) *Look {
	s.looks++
	l := &Look{s: s, now: now, first: s.at.IsZero(), step: now.Sub(s.at), queues: map[netip.AddrPort]queue{}, listening: map[uint64]bool{}}
	if l.first || l.step > longestStep || l.step < 0 {
		l.fresh, l.step = true, 0
	}
	return l
}

// See takes one socket.
func (l *Look) See(o Socket) {
	if o.Listening {
		l.same = l.same || l.s.listening[o.ID]
		if len(l.listening) < listeners {
			l.listening[o.ID] = true
		}
		q, known := l.queues[o.Local]
		if !known && len(l.queues) >= listeners {
			return
		}
		l.queues[o.Local] = queue{q.waiting + uint64(o.Waiting), q.limit + uint64(o.Limit)}
		return
	}
	l.all++
	if o.Client {
		l.clients++
	}
	if o.Unread > 0 {
		l.waiting++
		l.unread += uint64(o.Unread)
	}
	if !o.Accepted {
		l.queue(o.ID)
	}
	// What has arrived since the last look, and is there no more, was read since: that
	// needs no memory of the connection.
	l.read = l.read || o.Unread == 0 && o.Received > 0 && o.SinceReceived < l.step
	if l.s.tracks(o.ID) {
		l.track(o)
	}
}

// queue remembers who waits to be accepted: who did so at the last look, and others
// as long as there is room.
func (l *Look) queue(id uint64) {
	if !l.s.queued[id] && len(l.queued)+len(l.s.queued) >= tracked {
		return
	}
	if l.queued == nil {
		l.queued = map[uint64]bool{}
	}
	l.queued[id] = true
}

// accepts tells whether anybody who waited at the last look waits no more. One that is
// gone may have been accepted, and ended; it may have given up too, but only once.
func (l *Look) accepts() bool {
	for id := range l.s.queued {
		if !l.queued[id] {
			return true
		}
	}
	return false
}

// track compares a connection with what it was.
func (l *Look) track(o Socket) {
	s := l.s
	read := o.Received - min(o.Received, uint64(o.Unread))
	c, known := s.connections[o.ID]
	switch {
	case !known:
		// Who has come since the last look, and been read from, was read from since.
		l.read = l.read || !l.first && read > 0
		c = connection{waiting: o.Unread > 0, old: l.first && o.Unread > 0}
	case read > c.read:
		l.read = true
		c = connection{waiting: o.Unread > 0}
	case o.Unread == 0:
		c = connection{}
	case l.fresh:
		c = connection{waiting: true, old: c.waiting}
	case c.waiting:
		c.stuck += l.step
	default:
		c.waiting = true
	}
	// The kernel does not count both at one moment: less than before is no news.
	c.read, c.look = read, s.looks
	s.connections[o.ID] = c
	if len(s.connections) > 2*tracked {
		s.thin()
	}
}

// Done ends the look, and says what follows from it and those before.
func (l *Look) Done() Finding {
	s := l.s
	s.at = l.now
	s.quiet += l.step
	s.reads = s.reads || l.read
	if l.read || l.fresh {
		s.quiet = 0
	}
	for id, c := range s.connections {
		if c.look != s.looks {
			delete(s.connections, id)
		}
	}
	for len(s.connections) > tracked {
		s.thin()
	}
	for s.level > 0 && l.all>>(s.level-1) <= tracked/2 {
		s.level--
	}

	most := l.fullest()
	isFull := most.full()
	if isFull && s.wasFull && !l.fresh && !l.accepts() {
		s.full += l.step
	} else {
		s.full = 0
	}
	s.wasFull, s.queued, s.listening = isFull, l.queued, l.listening
	if !l.same {
		// Nobody listens, or another process does, of which nothing has been seen.
		s.reads, s.full = false, 0
	}
	return l.finding(most, isFull)
}

func (l *Look) finding(most queue, isFull bool) Finding {
	s := l.s
	waiting, stuck, longest := s.stuck()
	f := Finding{Connections: l.clients, Uneasy: isFull || (l.fresh || !l.read) && (waiting > 0 || most.waiting > 0)}
	switch {
	case len(l.queues) == 0:
		f.Word, f.Detail = Closed, "nothing listens on the port"
	case s.reads && isFull && s.full >= s.window:
		f.Word = QueueFull
		f.Detail = fmt.Sprintf("%d connections wait to be accepted, where %d may, and none was for %v", most.waiting, most.limit, rounded(s.full))
	case s.reads && stuck >= leastStuck:
		f.Word = Unread
		f.Detail = fmt.Sprintf("%d bytes on %d of %d connections are unread, and nothing was read from any for %v",
			l.unread, l.waiting, l.all, rounded(longest))
	case s.reads && s.quiet < s.patience() || l.waiting > 0:
		f.Word, f.Detail = Reading, "what arrives is read"
	default:
		f.Word, f.Detail = Idle, "nothing is unread"
	}
	return f
}

// stuck counts the connections that have waited to be read since the last of all
// reads, and those that have for too long; longest is for how long.
func (s *Server) stuck() (waiting, stuck int, longest time.Duration) {
	for _, c := range s.connections {
		if !c.waiting || c.old || c.stuck > s.quiet {
			continue
		}
		waiting++
		if c.stuck >= s.patience() {
			stuck, longest = stuck+1, max(longest, c.stuck)
		}
	}
	return waiting, stuck, longest
}

func (s *Server) patience() time.Duration { return s.window + ReadWithin }

// fullest of the queues, by the share of its limit.
func (l *Look) fullest() queue {
	var most queue
	for _, q := range l.queues {
		if q.waiting*max(most.limit, 1) >= most.waiting*max(q.limit, 1) {
			most = q
		}
	}
	return most
}

// tracks tells whether a connection is in the sample: always the same ones, as long
// as the level is.
func (s *Server) tracks(id uint64) bool {
	// The finaliser of MurmurHash3: cookies count up.
	id = (id ^ id>>33) * 0xff51afd7ed558ccd
	id = (id ^ id>>33) * 0xc4ceb9fe1a85ec53
	return (id^id>>33)&(1<<s.level-1) == 0
}

// thin halves the sample.
func (s *Server) thin() {
	s.level++
	for id := range s.connections {
		if !s.tracks(id) {
			delete(s.connections, id)
		}
	}
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
