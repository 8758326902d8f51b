package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/advice"
	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Kinds of networks, for Place; a Presence may have words of its own.
const (
	NetworkCell  = wire.NetworkCell
	NetworkWiFi  = wire.NetworkWiFi
	NetworkWired = wire.NetworkWired
)

// Place is where a client is: what the overrides of its Presence's interval tell
// apart. Unlike Config.Network it is told to servers.
type Place struct {
	// Network is the kind of network; Region wherever the Presence's author says.
	// Each at most 32 of A-Z a-z 0-9 . _ - ; empty: not declared.
	Network, Region string
}

func (p Place) check() error {
	for _, word := range []string{p.Network, p.Region} {
		if !wire.ValidPlace(word) {
			return fmt.Errorf("%q is not at most 32 of A-Z a-z 0-9 . _ -", word)
		}
	}
	return nil
}

// properties are what CONNECT says of it.
func (p Place) properties() []mqtt.User {
	return slices.DeleteFunc([]mqtt.User{{Name: wire.PropNetwork, Value: p.Network}, {Name: wire.PropRegion, Value: p.Region}},
		func(u mqtt.User) bool { return u.Value == "" })
}

// SetPlace says where the client is now. It counts from the next connection on: call it
// before NetworkChanged.
func (c *Client) SetPlace(p Place) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("place: %w", err)
	}
	c.mu.Lock()
	c.place = p
	c.mu.Unlock()
	c.say(placed{p})
	return nil
}

func (c *Client) where() Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place
}

const (
	// reportAfter is how many silences are reported together, unless one cost the
	// connection: that is told with the next beat.
	reportAfter = 64
	// reportEvery is how often, at most.
	reportEvery = time.Minute
)

// tally counts the silences that the connections of a client at one place survived,
// and did not, until they are reported. Those that are no longer than the
// shortest of advice's steps are not counted.
type tally struct {
	on     bool
	counts []wire.Outcomes // one for each step
	sum    int
	lost   bool
	told   time.Time // when it last was
}

func (t *tally) add(silence time.Duration, answered bool) {
	step := advice.Step(silence).Milliseconds()
	if t == nil || !t.on || step == 0 || t.sum >= wire.MaxReported {
		return
	}
	i := slices.IndexFunc(t.counts, func(o wire.Outcomes) bool { return o.Interval == step })
	if i < 0 {
		i = len(t.counts)
		t.counts = append(t.counts, wire.Outcomes{Interval: step})
	}
	t.sum++
	if answered {
		t.counts[i].Answered++
	} else {
		t.counts[i].Lost++
		t.lost = true
	}
}

func (t *tally) due(now time.Time) bool {
	return (t.lost || t.sum >= reportAfter) && now.Sub(t.told) >= reportEvery
}

// take takes what is to be reported now.
func (t *tally) take(now time.Time) []wire.Outcomes {
	all := t.counts
	t.counts, t.sum, t.lost, t.told = nil, 0, false, now
	return all
}

// report tells a server. What is lost on the way is not told again: it is one
// report of very many.
func (l *loop) report(s *session, r report) {
	payload, _ := json.Marshal(struct { // this can always be marshalled
		Outcomes []wire.Outcomes `json:"outcomes"`
	}{r.outcomes})
	if err := s.publish(s.life, wire.TopicBeat, payload); err != nil {
		l.cfg.Logger.Debug("Silences were not reported", "client", l.cfg.ClientID, "error", err)
	}
}
