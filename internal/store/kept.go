package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Assignment is who observes a server besides the agents, because too few of
// those can. It stands until it is deleted.
type Assignment struct {
	StandIns []StandIn `json:"standIns"`
	// Address is where to probe the server, host:port.
	Address string `json:"address"`
	// AnswerTime and Window are the limits of overload, in milliseconds.
	AnswerTime int64 `json:"answerTime"`
	Window     int64 `json:"window"`
	// Term is the leader's that wrote it.
	Term int64 `json:"term"`
}

// StandIn is an observer that is no agent.
type StandIn struct {
	// Name under which it reports: ServerObserver, or ControllerObserver.
	Name string `json:"name"`
	Node string `json:"node,omitempty"`
	Zone string `json:"zone,omitempty"`
	// Boot is its present life, as in its reports.
	Boot int64 `json:"boot"`
}

// Due says that a server has been let in again and that its share has not been
// sent back to it yet.
type Due struct {
	// Failover ("namespace/name") that took it out.
	Failover string `json:"failover"`
	// At is when it was let in, by the leader's clock.
	At time.Time `json:"at"`
}

// Penalty is what a server's failures have added up to.
type Penalty struct {
	// Incarnation that failed last.
	Incarnation string `json:"incarnation"`
	// Sum at the last failure, which began At; it decays from then on.
	Sum float64   `json:"sum"`
	At  time.Time `json:"at"`
	// Suppressed is until when it is not let in again; zero: it may be. Both times
	// are by the leader's clock.
	Suppressed time.Time `json:"suppressed,omitzero"`
}

// Names of observers that are no agents begin so. No node has a colon in its name.
const (
	serverObserver     = "server:"
	controllerObserver = "controller:"
)

// ServerObserver is the name under which a server ("namespace/pod") observes others.
func ServerObserver(server string) string {
	return serverObserver + strings.ReplaceAll(server, "/", ":")
}

// ControllerObserver is the same for a controller, by its id in the election.
func ControllerObserver(id string) string { return controllerObserver + id }

// ObservingServer is the server ("namespace/pod") that observes under a name;
// false: it is no server.
func ObservingServer(observer string) (string, bool) {
	server, ok := strings.CutPrefix(observer, serverObserver)
	return strings.ReplaceAll(server, ":", "/"), ok
}

// ObservingController is the id of the controller that observes under a name;
// false: it is none.
func ObservingController(observer string) (string, bool) {
	return strings.CutPrefix(observer, controllerObserver)
}

// PutAssignment has a server ("namespace/pod") observed by stand-ins, in this term.
func (l *Leadership) PutAssignment(ctx context.Context, server string, a Assignment) error {
	a.Term = l.term
	return l.keep(ctx, assignmentsRoot, server, a)
}

// DeleteAssignment ends that.
func (l *Leadership) DeleteAssignment(ctx context.Context, server string) error {
	return l.forget(ctx, assignmentsRoot, server)
}

// PutPenalty remembers a server's failures beyond the life of this process.
func (l *Leadership) PutPenalty(ctx context.Context, server string, p Penalty) error {
	return l.keep(ctx, penaltiesRoot, server, p)
}

// DeletePenalty forgets them.
func (l *Leadership) DeletePenalty(ctx context.Context, server string) error {
	return l.forget(ctx, penaltiesRoot, server)
}

// DeleteDue notes that nothing is due to a server any more.
func (l *Leadership) DeleteDue(ctx context.Context, server string) error {
	return l.forget(ctx, dueRoot, server)
}

// keep writes a record of a server, if the term still runs.
func (l *Leadership) keep(ctx context.Context, root, server string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("store: encode %T: %w", record, err)
	}
	return l.once(ctx, server, clientv3.OpPut(root+server, string(value)))
}

func (l *Leadership) forget(ctx context.Context, root, server string) error {
	return l.once(ctx, server, clientv3.OpDelete(root+server))
}

func (l *Leadership) once(ctx context.Context, server string, op clientv3.Op) error {
	if err := validServer(server); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return l.s.retry(ctx, opKeep, func(ctx context.Context) error {
		_, err := l.commit(ctx, op)
		return err
	})
}

// due is the record that a withdrawn drain leaves behind.
func (l *Leadership) due(server string, d Directive) (clientv3.Op, error) {
	value, err := json.Marshal(Due{Failover: d.Failover, At: l.s.clock()})
	if err != nil {
		return clientv3.Op{}, fmt.Errorf("store: encode due: %w", err)
	}
	return clientv3.OpPut(dueRoot+server, string(value)), nil
}

// WatchAssignments follows who stands in, by the server observed.
func (s *Store) WatchAssignments(ctx context.Context) <-chan Update[string, Assignment] {
	return watch(ctx, s, assignments)
}

// WatchDue follows what is due to servers that were let in again.
func (s *Store) WatchDue(ctx context.Context) <-chan Update[string, Due] { return watch(ctx, s, due) }

// WatchPenalties follows the penalties of servers.
func (s *Store) WatchPenalties(ctx context.Context) <-chan Update[string, Penalty] {
	return watch(ctx, s, penalties)
}
