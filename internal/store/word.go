package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// word is one thing that an agent says, reduced to what makes it worth writing.
type word struct {
	boot, seq            int64
	value                string // as it is written
	said                 string // the band, or the word on a node
	since                time.Time
	node, zone           string
	address, incarnation string
	unwell               bool // an observer that is not well does not count
	answer, queueDelay   int64
	connections          int // -1: not counted
	strain               string
}

// differs tells whether w has to be written where old stands. How much of a change
// is worth it has been decided by who says it: an agent repeats what it said last.
func (w word) differs(old word) bool {
	return w.said != old.said || !w.since.Equal(old.since) ||
		w.node != old.node || w.zone != old.zone ||
		w.address != old.address || w.incarnation != old.incarnation ||
		w.unwell != old.unwell ||
		w.answer != old.answer || w.queueDelay != old.queueDelay || w.connections != old.connections ||
		w.strain != old.strain
}

// wordsOf takes a report apart, by keys in etcd.
func wordsOf(r wire.Report) (map[string]word, error) {
	if !segments(r.Node) {
		return nil, fmt.Errorf("node %q is empty or has a slash", r.Node)
	}
	words := make(map[string]word, len(r.Observations)+len(r.Suspicions))
	for server, o := range r.Observations {
		if err := validServer(server); err != nil {
			return nil, err
		}
		rec := Observation{Observation: o, Node: r.Node, Zone: r.Zone, Boot: r.Boot, Seq: r.Seq, Health: r.Health}
		if err := say(words, observationPath(ObservationKey{Server: server, Observer: r.Node}), rec, rec.word()); err != nil {
			return nil, err
		}
	}
	for node, u := range r.Suspicions {
		if !segments(node) {
			return nil, fmt.Errorf("node %q is empty or has a slash", node)
		}
		rec := Suspicion{Suspicion: u, Zone: r.Zone, Boot: r.Boot, Seq: r.Seq, Health: r.Health}
		if err := say(words, suspicionPath(SuspicionKey{Node: node, Reporter: r.Node}), rec, rec.word()); err != nil {
			return nil, err
		}
	}
	return words, nil
}

func say(words map[string]word, key string, rec any, w word) error {
	value, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	w.value = string(value)
	words[key] = w
	return nil
}

func (o Observation) word() word {
	connections := -1
	if o.Connections != nil {
		connections = *o.Connections
	}
	return word{
		boot: o.Boot, seq: o.Seq, said: string(o.Band), since: o.Since, node: o.Node, zone: o.Zone,
		address: o.Address, incarnation: o.Incarnation, unwell: o.Health > 0,
		answer: o.Answer, queueDelay: o.QueueDelay, connections: connections, strain: o.Strain.Kind,
	}
}

func (u Suspicion) word() word {
	return word{
		boot: u.Boot, seq: u.Seq, said: string(u.Word), since: u.Since, zone: u.Zone, unwell: u.Health > 0,
	}
}
