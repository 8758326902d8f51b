// Package history checks who owned which session when. Real heartbeat servers,
// each a process of its own, real clients and a real etcd are stopped, cut off,
// wiped and restored at random; what the clients sent and what etcd accepted is
// recorded, and porcupine looks for an order of all that in which every owner had
// heard of its client. There is no such order where a stale write was accepted.
package history

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// MaxServers is how many lives of servers a history may have.
const MaxServers = 16

// Beat is a packet that a client sent to a server. It was read, if at all,
// between its call and its return.
type Beat struct {
	Client string
	Server int // which life of which server, from 0
}

// Put is a record that etcd holds, written by a server.
type Put struct {
	Client string
	// Number orders all puts and restores of a run, from 1. Base is that of the
	// record replaced; 0: there was none.
	Number, Base int
	Server       int
	Offline      bool
}

// Restore is etcd coming back with an earlier record of a client; To 0: with
// none.
type Restore struct {
	Client  string
	To      int
	Server  int // of that record
	Offline bool
}

// state of one client's session.
type state struct {
	record  int // the Number of the Put; 0: absent
	owner   int
	offline bool
	// heard is, by server, 1 more than the record that stood when the server last
	// read a packet of the client; 0: it never did.
	heard [MaxServers]int
}

// Model is what ownership must look like to everybody: a record changes hands
// only to a server that has read a packet of the client since it was written, and
// says offline only by the word of its owner.
func Model() porcupine.Model {
	return porcupine.Model{
		Partition: byClient,
		Init:      func() any { return state{} },
		Step: func(was, input, _ any) (bool, any) {
			s := was.(state)
			switch op := input.(type) {
			case Beat:
				s.heard[op.Server] = s.record + 1
			case Restore:
				s.record, s.owner, s.offline = op.To, op.Server, op.Offline
				// What was heard since the record that is back still was heard since.
				for i, h := range s.heard {
					s.heard[i] = min(h, op.To+1)
				}
			case Put:
				if !s.allows(op) {
					return false, was
				}
				s.record, s.owner, s.offline = op.Number, op.Server, op.Offline
			}
			return true, s
		},
		DescribeOperation: func(input, _ any) string { return describe(input) },
		DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
	}
}

func (s state) allows(op Put) bool {
	mine := s.record != 0 && s.owner == op.Server
	switch {
	case op.Base != s.record:
		return false
	case op.Offline:
		return mine && !s.offline
	case mine:
		return true
	}
	return s.heard[op.Server] > s.record
}

func byClient(all []porcupine.Operation) [][]porcupine.Operation {
	at := map[string]int{}
	var parts [][]porcupine.Operation
	for _, op := range all {
		client := clientOf(op.Input)
		i, known := at[client]
		if !known {
			i = len(parts)
			at[client], parts = i, append(parts, nil)
		}
		parts[i] = append(parts[i], op)
	}
	return parts
}

func clientOf(input any) string {
	switch op := input.(type) {
	case Beat:
		return op.Client
	case Put:
		return op.Client
	case Restore:
		return op.Client
	}
	panic(fmt.Sprintf("history: %T is no operation", input))
}

func describe(input any) string {
	switch op := input.(type) {
	case Beat:
		return fmt.Sprintf("beat %s → %d", op.Client, op.Server)
	case Put:
		word := "online"
		if op.Offline {
			word = "offline"
		}
		return fmt.Sprintf("put %s: #%d over #%d, %s at %d", op.Client, op.Number, op.Base, word, op.Server)
	case Restore:
		return fmt.Sprintf("restore %s: #%d", op.Client, op.To)
	}
	return ""
}
