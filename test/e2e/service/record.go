package service

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// Late is how long an answer may take before its client counts as without one.
	Late = time.Second
	// maxTurns bounds what a record remembers, maxName what it believes a pod's name to be.
	maxTurns = 64
	maxName  = 253
)

// Client is what one client has seen.
type Client struct {
	ID int `json:"id"`
	// Pod that answered last; empty: none has.
	Pod string `json:"pod"`
	// Asking is since when it waits for an answer, or to be connected; zero: it doesn't.
	Asking time.Time `json:"asking,omitzero"`
	// Answers counts them by pod.
	Answers map[string]int `json:"answers,omitempty"`
	// Broken counts connections that somebody else ended, by pod. Under "" are
	// those on which nobody had answered yet.
	Broken map[string]int `json:"broken,omitempty"`
	// Failures counts its questions and connections that failed; those that were repeated
	// for it by its own library did not.
	Failures int `json:"failures,omitempty"`
	// Turns are the latest changes of its luck, at most 64.
	Turns []Turn `json:"turns,omitempty"`
}

// Turn is an answer that was late, the first after a failure, or from another
// pod than the one before; or, with an Error, a failure.
type Turn struct {
	At   time.Time     `json:"at"`
	Pod  string        `json:"pod,omitempty"`
	Took time.Duration `json:"took,omitempty"`
	// Error: the connection ended, or the client had no more patience.
	Error string `json:"error,omitempty"`
}

// Answered is when a client's troubles since a fault were over, at the answer that
// ended the last of them: from itself, where it had none. False: they are not, at now.
func (c *Client) Answered(from, now time.Time) (time.Time, bool) {
	at, failed := from, false
	for _, t := range c.Turns {
		switch {
		case t.At.Before(from):
		case t.Error != "":
			failed = true
		case failed || t.Took > Late:
			at, failed = t.At, false
		}
	}
	waits := !c.Asking.IsZero() && now.Sub(c.Asking) > Late
	return at, !failed && !waits
}

// AnsweredWithin is how long after a fault a share of clients had answers again.
// False: they have not, at now, or there are no clients.
func AnsweredWithin(clients []Client, share float64, from, now time.Time) (time.Duration, bool) {
	var times []time.Duration
	for i := range clients {
		if at, ok := clients[i].Answered(from, now); ok {
			times = append(times, at.Sub(from))
		}
	}
	slices.Sort(times)
	needed := int(math.Ceil(share * float64(len(clients))))
	if needed == 0 || len(times) < needed {
		return 0, false
	}
	return times[needed-1], true
}

// record keeps what one client sees. All its methods may be called at once.
type record struct {
	mu     sync.Mutex
	client Client
	failed bool
	// line on which questions are asked.
	line *line
}

func newRecord(id int) *record {
	return &record{client: Client{ID: id, Answers: map[string]int{}, Broken: map[string]int{}}}
}

// asks: it waits for an answer, from now on or since it failed to have one.
func (r *record) asks(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client.Asking.IsZero() {
		r.client.Asking = now
	}
}

func (r *record) answered(now time.Time, pod string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.client
	took := now.Sub(c.Asking)
	if r.failed || took > Late || pod != c.Pod {
		r.turn(Turn{At: now, Pod: pod, Took: took})
	}
	c.Pod, c.Asking, r.failed = pod, time.Time{}, false
	c.Answers[pod]++
	if r.line != nil {
		r.line.pod = pod
	}
}

func (r *record) fails(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client.Asking, r.failed = time.Time{}, true
	r.client.Failures++
	r.turn(Turn{At: now, Error: err.Error()})
}

func (r *record) turn(t Turn) {
	c := &r.client
	if len(c.Turns) == maxTurns {
		c.Turns = slices.Delete(c.Turns, 0, 1)
	}
	c.Turns = append(c.Turns, t)
}

func (r *record) leads(l *line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line = l
}

func (r *record) broke(l *line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client.Broken[l.pod]++
}

func (r *record) snapshot() Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.client
	c.Answers, c.Broken, c.Turns = maps.Clone(c.Answers), maps.Clone(c.Broken), slices.Clone(c.Turns)
	return c
}
