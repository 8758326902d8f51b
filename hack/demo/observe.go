package main

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/crowd"
)

// clientsView is what the clients themselves say: the crowd's events are the
// truth about who is where, whatever the servers and records claim.
type clientsView struct {
	mu      sync.Mutex
	at      map[string]string // client → server, "namespace/name"
	count   map[string]int    // server → clients
	peak    map[string]int    // server → most clients since watch
	victim  string
	zero    time.Time           // of the fault
	left    map[string]struct{} // were on the victim at the fault, and have not moved
	first   time.Time
	last    time.Time
	arrived map[string][]time.Time // client → when it connected to the victim, since the mend
	changed chan struct{}
}

func newClientsView() *clientsView {
	return &clientsView{at: map[string]string{}, count: map[string]int{}, peak: map[string]int{}, arrived: map[string][]time.Time{}, changed: make(chan struct{}, 1)}
}

// read takes in the crowd's events until its output ends.
func (v *clientsView) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var line crowd.Line
		if json.Unmarshal(lines.Bytes(), &line) == nil {
			v.take(line)
		}
	}
}

func (v *clientsView) take(e crowd.Line) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Kind != client.Connected && e.Kind != client.Moved {
		return
	}
	if old, ok := v.at[e.Client]; ok {
		v.count[old]--
	}
	v.at[e.Client] = e.To
	v.count[e.To]++
	v.peak[e.To] = max(v.peak[e.To], v.count[e.To])
	if e.To == v.victim {
		v.arrived[e.Client] = append(v.arrived[e.Client], e.At)
	} else if _, ok := v.left[e.Client]; ok {
		delete(v.left, e.Client)
		if v.first.IsZero() {
			v.first = e.At
		}
		v.last = e.At
	}
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// fault begins the measurement: victim is about to fail. It returns how many
// clients are on it.
func (v *clientsView) fault(victim string, at time.Time) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.victim, v.zero = victim, at
	v.left = map[string]struct{}{}
	for client, server := range v.at {
		if server == victim {
			v.left[client] = struct{}{}
		}
	}
	v.peak = maps.Clone(v.count)
	clear(v.arrived)
	return len(v.left)
}

type progress struct {
	left        int
	first, last time.Time
}

func (v *clientsView) progress() progress {
	v.mu.Lock()
	defer v.mu.Unlock()
	return progress{left: len(v.left), first: v.first, last: v.last}
}

// on is how many clients are on a server.
func (v *clientsView) on(server string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count[server]
}

func (v *clientsView) total() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.at)
}

// receiverLoad is the peak of any server but the victim over their mean.
func (v *clientsView) receiverLoad() float64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	receivers, most := 0, 0
	for server, n := range v.peak {
		if server != v.victim {
			receivers++
			most = max(most, n)
		}
	}
	if receivers == 0 || len(v.at) == 0 {
		return 0
	}
	return float64(most) / (float64(len(v.at)) / float64(receivers))
}

// came tells whether a client connected to the victim between its mend and at.
// A server may record a client before a busy crowd has read its welcome; a server
// that has just woken is let in seconds later, so what it writes at once still tells.
func (v *clientsView) came(client string, at time.Time) bool {
	const ahead = time.Second
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.arrived[client] {
		if t.Before(at.Add(ahead)) {
			return true
		}
	}
	return false
}
