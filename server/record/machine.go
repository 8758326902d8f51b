package record

// machine decides, for one client, what is to be written about it. It is pure:
// the Recorder tells it what happened, asks it what to do (next), does that and
// tells it the outcome.
//
// What it keeps to:
//
//   - Every write compares the revision that the record is known to have, and
//     no write follows a failed compare without a packet that proves that the
//     client is here: a packet proves it against every record up to the
//     revision that this process knew when it read the packet.
//   - Nothing says online without such a packet since the last gap.
//   - Nothing says offline but over a record of our own.
type machine struct {
	// known is the highest revision at which this client's record, or its
	// absence, is known.
	known int64
	// base is the revision to compare with: of the record known, 0 for none.
	base int64
	// proof is the highest revision that a packet has proven the client to be
	// here against; need is what it must reach before anything says online.
	proof, need int64
	// rival is the latest that the watch showed while a write was in flight.
	rival *finding

	// content is incremented when what should be written changes; arrivals
	// when the client connects. They wrap: only equality counts.
	content, arrivals uint32

	online bool // the table holds a session of the client
	// own: the record at base says that the client is online here.
	own bool
	// settled: the record at base says what it should.
	settled bool
	// fresh: the client has connected since own was last established.
	fresh    bool
	inFlight bool
	// doubt: changes of the record may have been missed.
	doubt bool
	lost  Loss
}

// Loss is why a session is not ours any more.
type Loss uint8

// Why a session was lost.
const (
	// Kept: it was not.
	Kept Loss = iota
	// Taken: another server has recorded the client since.
	Taken
	// Foreign: the client is online elsewhere under another principal.
	Foreign
)

// finding is what a failed compare, a read or the watch has shown of a record.
type finding struct {
	// revision that the record was written at; 0 where it is absent.
	revision int64
	// asOf is a revision, no lower, at which the record was so.
	asOf    int64
	absent  bool
	ours    bool // written by this incarnation
	offline bool // a tombstone
	same    bool // ours, and says what we would write now
	foreign bool // another principal's, and online
}

// ticket goes with a write, and comes back with its outcome.
type ticket struct {
	online            bool
	content, arrivals uint32
}

type action int

const (
	idle   action = iota // all is said
	wait                 // for a packet
	write                // online or offline, as ticket says, over base
	read                 // the record: what it says is not known
	give                 // the session up: see lost
	forget               // the client: there is nothing more to say
)

func (m *machine) next() action {
	switch {
	case m.inFlight:
		return idle
	case m.lost != Kept:
		return give
	case m.doubt:
		return read
	case m.online && m.settled:
		return idle
	case m.online && m.proof >= max(m.need, 1):
		return write
	case m.online:
		return wait
	case m.own:
		return write
	}
	return forget
}

// connect: the client's CONNECT was accepted; changed tells whether what should
// be written has changed by it.
func (m *machine) connect(proof int64, changed bool) {
	if !m.online || changed {
		m.change()
	}
	m.online, m.fresh = true, true
	m.arrivals++
	m.packet(proof)
}

// change: what should be written is another.
func (m *machine) change() {
	m.content++
	m.settled = false
}

func (m *machine) packet(proof int64) { m.proof = max(m.proof, proof) }

// leave: the session has ended.
func (m *machine) leave() {
	if m.online {
		m.online = false
		m.change()
	}
}

// gap: this process was stopped, or lost its lease. What it has not written
// needs a new packet.
func (m *machine) gap() { m.proof = 0 }

// suspect: changes of the record may have been missed.
func (m *machine) suspect() { m.doubt = true }

// rewind: the store has lost history. Nothing that was known by revisions
// counts any more; the record must be read.
func (m *machine) rewind() {
	m.known, m.base, m.own, m.settled = 0, 0, false, false
	m.proof, m.need, m.rival = 0, 0, nil
	m.doubt = true
}

// begin: a write or a read is sent.
func (m *machine) begin() ticket {
	m.inFlight = true
	return ticket{m.online, m.content, m.arrivals}
}

// won: the write was applied.
func (m *machine) won(t ticket, revision int64) {
	m.inFlight = false
	m.known, m.base = max(m.known, revision), revision
	m.own = t.online
	m.settled = t.online == m.online && t.content == m.content
	m.need = 0
	if t.online {
		m.fresh = t.arrivals != m.arrivals
	}
	m.afterFlight()
}

// failed: the write or read had no answer. A write may have been applied all
// the same, or may yet be: the next one will find it, or the watch will show it.
func (m *machine) failed() {
	m.inFlight = false
	m.afterFlight()
}

// found: the write was refused because the record is another, or this is what
// was read.
func (m *machine) found(f finding) {
	m.inFlight, m.doubt = false, false
	if f.asOf >= m.known {
		m.learn(f)
	}
	m.afterFlight()
}

// seen: the watch shows a record.
func (m *machine) seen(f finding) {
	switch {
	case f.asOf <= m.known:
	case m.inFlight:
		if m.rival == nil || f.asOf > m.rival.asOf {
			m.rival = &f
		}
	default:
		m.learn(f)
	}
}

func (m *machine) afterFlight() {
	if f := m.rival; f != nil {
		m.rival = nil
		m.seen(*f)
	}
}

// learn takes what was found for true.
func (m *machine) learn(f finding) {
	had := m.own
	m.known, m.base, m.own, m.settled = f.asOf, f.revision, false, false
	switch {
	case f.ours && !f.offline && !f.absent:
		m.own, m.need = true, 0
		m.settled = m.online && f.same
	case !m.online:
	case f.foreign:
		m.lost = Foreign
	case had && !m.fresh && !f.absent && !f.ours:
		m.lost = Taken
	case f.absent:
		m.need = f.asOf
	default:
		m.need = f.revision
	}
}
