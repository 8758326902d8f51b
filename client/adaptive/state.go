package adaptive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Bounds of a State.
const (
	// MaxNetworks is how many networks a State remembers, as Mars does.
	MaxNetworks = 20
	// MaxNetworkName is the longest name of a network in bytes. One with a
	// longer name is not remembered.
	MaxNetworkName = 256

	maxMillis = Millis(1 << 40) // 34 years: no sum of two overflows
	maxCount  = 1 << 30
)

// State is all that a Strategy knows. It is bounded: see MaxNetworks.
type State struct {
	// Strategy is the name of the one that wrote it.
	Strategy string `json:"strategy"`
	// Network is where the client is; empty: unknown.
	Network string `json:"network,omitempty"`
	// Limit is the longest interval the server allows; zero: any.
	Limit Millis `json:"limitMs,omitempty"`
	// Foreground is set between Foreground and Background.
	Foreground bool `json:"foreground,omitempty"`
	// Interval is the one decided on last.
	Interval Millis `json:"intervalMs"`
	// Previous is the interval that was in use at the answer before (Mars).
	Previous Millis `json:"previousMs,omitempty"`
	// Answers counts beats answered on this connection (Mars).
	Answers int `json:"answers,omitempty"`
	// Unanswered counts beats without an answer in a row (Bisect).
	Unanswered int `json:"unanswered,omitempty"`
	// Silence is what the first of the unanswered beats ended (Bisect).
	Silence Millis `json:"silenceMs,omitempty"`
	// Networks are the networks known, the last used one first.
	Networks []Network `json:"networks,omitempty"`
}

// Network is what is known of one network.
type Network struct {
	Name string `json:"name"`
	// Interval is the one in use or in test (Mars), or the settled one (Bisect).
	Interval Millis `json:"intervalMs,omitempty"`
	// Stable: the search is over.
	Stable bool `json:"stable,omitempty"`
	// Changed is when what follows from the network's answers last changed, in
	// Unix milliseconds.
	Changed int64 `json:"changedUnixMs"`
	// Successes counts answers in a row at Interval.
	Successes int `json:"successes,omitempty"`
	// Failures counts failures at Interval.
	Failures int `json:"failures,omitempty"`

	// Low is the longest silence that was answered; zero: none above Min (Bisect).
	Low Millis `json:"lowMs,omitempty"`
	// High is the shortest silence that ended a connection; zero: none
	// (Bisect). Low < High, or one of them is zero.
	High Millis `json:"highMs,omitempty"`
	// Budget is how many connections the search may still lose (Bisect).
	Budget int `json:"budget,omitempty"`
	// Step is the step upwards while the search may lose one connection; zero:
	// not chosen yet (Bisect).
	Step Millis `json:"stepMs,omitempty"`
	// Retest: High is tried again, because the network may have changed (Bisect).
	Retest bool `json:"retest,omitempty"`
	// Backoff counts the tries of High in vain; each doubles the wait (Bisect).
	Backoff int `json:"backoff,omitempty"`
}

// Settled is the interval found for the network that the client is on; not ok:
// the search for it still goes on.
func (s State) Settled() (interval time.Duration, ok bool) {
	for _, n := range s.Networks {
		if n.Name == s.Network && n.Stable {
			return n.Interval.Duration(), true
		}
	}
	return 0, false
}

// Decode reads a State that was written as JSON. It refuses whatever no
// Strategy has written, all faults in one error.
func Decode(data []byte) (State, error) {
	var s State
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return State{}, fmt.Errorf("reading the state: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return State{}, errors.New("reading the state: more follows it")
	}
	if err := s.validate(); err != nil {
		return State{}, fmt.Errorf("reading the state: %w", err)
	}
	return s, nil
}

func (s State) validate() error {
	var f faults
	f.span("limitMs", s.Limit)
	f.span("intervalMs", s.Interval)
	f.span("previousMs", s.Previous)
	f.span("silenceMs", s.Silence)
	f.count("answers", s.Answers)
	f.count("unanswered", s.Unanswered)
	if len(s.Network) > MaxNetworkName {
		f.add("network", "longer than %d bytes", MaxNetworkName)
	}
	if len(s.Networks) > MaxNetworks {
		f.add("networks", "more than %d", MaxNetworks)
		return f.err()
	}
	for i, n := range s.Networks {
		at := func(field string) string { return fmt.Sprintf("networks[%d].%s", i, field) }
		if n.Name == "" || len(n.Name) > MaxNetworkName {
			f.add(at("name"), "not of 1 to %d bytes", MaxNetworkName)
		}
		if slices.ContainsFunc(s.Networks[:i], func(o Network) bool { return o.Name == n.Name }) {
			f.add(at("name"), "%q is there twice", n.Name)
		}
		f.span(at("intervalMs"), n.Interval)
		f.span(at("lowMs"), n.Low)
		f.span(at("highMs"), n.High)
		f.span(at("stepMs"), n.Step)
		if n.Low > 0 && n.High > 0 && n.Low >= n.High {
			f.add(at("highMs"), "not above lowMs")
		}
		if n.Changed < 0 {
			f.add(at("changedUnixMs"), "%d is negative", n.Changed)
		}
		f.count(at("successes"), n.Successes)
		f.count(at("failures"), n.Failures)
		f.count(at("budget"), n.Budget)
		f.count(at("backoff"), n.Backoff)
	}
	return f.err()
}

// of is s for a strategy: a beginning when it is another one's. Nothing that
// the result refers to is shared with s.
func (s State) of(name string, least Millis) State {
	if s.Strategy != name {
		return State{Strategy: name, Interval: least, Foreground: s.Foreground}
	}
	s.Networks = slices.Clone(s.Networks)
	return s
}

// network is the record of the network that the client is on, nil when unknown.
func (s *State) network() *Network {
	if s.Network == "" {
		return nil
	}
	for i := range s.Networks {
		if s.Networks[i].Name == s.Network {
			return &s.Networks[i]
		}
	}
	return nil
}

// enter makes name the network that the client is on, and n what is known of it
// when nothing is. The record comes first; the one unused for longest goes when
// there are too many. Reports whether it is a new one.
func (s *State) enter(name string, n Network, now time.Time) {
	if len(name) > MaxNetworkName {
		name = ""
	}
	s.Network = name
	if name == "" {
		return
	}
	i := slices.IndexFunc(s.Networks, func(n Network) bool { return n.Name == name })
	if i >= 0 {
		n = s.Networks[i]
		s.Networks = slices.Delete(s.Networks, i, i+1)
	}
	n.Name = name
	n.Changed = min(n.Changed, now.UnixMilli()) // a clock that was set back
	s.Networks = slices.Insert(s.Networks, 0, n)
	s.Networks = s.Networks[:min(len(s.Networks), MaxNetworks)]
}

// up counts without ever leaving what Decode accepts.
func up(n *int) { *n = min(*n+1, maxCount) }
