package gossip

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// State of a member, as gossip has it.
type State string

// The states.
const (
	Alive State = "alive"
	Lost  State = "lost" // it stopped answering
	Left  State = "left" // it said goodbye
)

// Member is one agent.
type Member struct {
	Node    string
	Address string // "ip:port"
	State   State
	Since   time.Time
	// Answered is when a question was sent that the agent has answered in time, the
	// last of memberlist's own; zero: none was. Who knows that need not ask so soon.
	Answered time.Time
}

// forgetAfter is how long a member is remembered that is neither alive nor a
// peer that should be.
const forgetAfter = 10 * time.Minute

// Meta of a member. Other bytes may follow one day.
var (
	metaHere    = []byte{1}
	metaLeaving = []byte{2}
)

// members is what memberlist tells. It is called under memberlist's locks, so it
// never waits for anything, and never calls back: a map under a lock of its own,
// held for a few instructions.
type members struct {
	leaving atomic.Bool
	changed chan struct{} // cap 1

	mu     sync.Mutex
	byNode map[string]Member
}

var (
	_ memberlist.EventDelegate = (*members)(nil)
	_ memberlist.Delegate      = (*members)(nil)
	_ memberlist.PingDelegate  = (*members)(nil)
)

func newMembers() *members {
	return &members{changed: make(chan struct{}, 1), byNode: map[string]Member{}}
}

func (m *members) get(node string) (Member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x, ok := m.byNode[node]
	return x, ok
}

func (m *members) alive(except string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for node, x := range m.byNode {
		if x.State == Alive && node != except {
			n++
		}
	}
	return n
}

// retain forgets members that are long gone and should not be there either.
func (m *members) retain(peers []Peer) {
	wanted := make(map[string]bool, len(peers))
	for _, p := range peers {
		wanted[p.Node] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for node, x := range m.byNode {
		if x.State != Alive && !wanted[node] && time.Since(x.Since) > forgetAfter {
			delete(m.byNode, node)
		}
	}
}

func (m *members) set(n *memberlist.Node, s State) {
	x := Member{Node: n.Name, Address: n.Address(), State: s, Since: time.Now()}
	m.mu.Lock()
	old, known := m.byNode[n.Name]
	x.Answered = old.Answered
	if known && old.State == Left && s == Lost {
		x.State, x.Since = old.State, old.Since // it had said so
	}
	m.byNode[n.Name] = x
	m.mu.Unlock()
	if !known || old.State != x.State || old.Address != x.Address {
		m.tell()
	}
}

func (m *members) tell() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (m *members) NotifyJoin(n *memberlist.Node) { m.set(n, stateOf(n)) }

// NotifyUpdate implements memberlist.EventDelegate.
func (m *members) NotifyUpdate(n *memberlist.Node) { m.set(n, stateOf(n)) }

// NotifyLeave implements memberlist.EventDelegate: for the dead, too.
func (m *members) NotifyLeave(n *memberlist.Node) {
	s := Lost
	if stateOf(n) == Left {
		s = Left
	}
	m.set(n, s)
}

func stateOf(n *memberlist.Node) State {
	if bytes.HasPrefix(n.Meta, metaLeaving) {
		return Left
	}
	return Alive
}

// NotifyPingComplete implements memberlist.PingDelegate.
func (m *members) NotifyPingComplete(n *memberlist.Node, took time.Duration, _ []byte) {
	sent := time.Now().Add(-took)
	m.mu.Lock()
	x, known := m.byNode[n.Name]
	if known {
		x.Answered = sent
		m.byNode[n.Name] = x
	}
	m.mu.Unlock()
	if known {
		m.tell()
	}
}

// AckPayload implements memberlist.PingDelegate: there is none.
func (m *members) AckPayload() []byte { return nil }

// NodeMeta implements memberlist.Delegate.
func (m *members) NodeMeta(int) []byte {
	if m.leaving.Load() {
		return metaLeaving
	}
	return metaHere
}

// NotifyMsg implements memberlist.Delegate: there are no messages.
func (m *members) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate: there are none.
func (m *members) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate: there is none.
func (m *members) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate: there is none.
func (m *members) MergeRemoteState([]byte, bool) {}
