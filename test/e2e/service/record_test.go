package service

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestAnsweredIsTheEndOfTheLastTrouble(t *testing.T) {
	fault := time.Unix(1000, 0)
	at := func(s float64) time.Time { return fault.Add(time.Duration(s * float64(time.Second))) }
	late := func(s float64) Turn { return Turn{At: at(s), Pod: "b", Took: 2 * time.Second} }
	answered := func(s float64) Turn { return Turn{At: at(s), Pod: "b", Took: time.Millisecond} }
	failed := func(s float64) Turn { return Turn{At: at(s), Error: "reset"} }
	now := at(20)
	for _, c := range []struct {
		name   string
		client Client
		want   float64
		waits  bool
	}{
		{"no trouble at all", Client{}, 0, false},
		{"trouble before the fault", Client{Turns: []Turn{failed(-3), answered(-2)}}, 0, false},
		{"another pod without a failure is no trouble", Client{Turns: []Turn{answered(3)}}, 0, false},
		{"a late answer", Client{Turns: []Turn{late(3)}}, 3, false},
		{"a failure, then an answer", Client{Turns: []Turn{failed(5), answered(5.5)}}, 5.5, false},
		{"twice", Client{Turns: []Turn{failed(5), answered(5.5), failed(11), failed(12), answered(13)}}, 13, false},
		{"a failure and no answer", Client{Turns: []Turn{late(3), failed(5)}}, 0, true},
		{"waiting for long", Client{Asking: at(18)}, 0, true},
		{"asking just now", Client{Asking: at(19.9)}, 0, false},
	} {
		got, ok := c.client.Answered(fault, now)
		if ok == c.waits || ok && !got.Equal(at(c.want)) {
			t.Errorf("%s: %s, %t", c.name, got.Sub(fault), ok)
		}
	}
}

func TestAShareOfTheClientsIsAnsweredWithinTheTimeOfTheLastOfThem(t *testing.T) {
	fault := time.Unix(1000, 0)
	var clients []Client
	for i := range 10 {
		clients = append(clients, Client{Turns: []Turn{{At: fault.Add(time.Duration(10-i) * time.Second), Took: 2 * time.Second}}})
	}
	clients[0].Turns = append(clients[0].Turns, Turn{At: fault.Add(11 * time.Second), Error: "reset"})
	now := fault.Add(time.Minute)
	for _, c := range []struct {
		share float64
		want  time.Duration
		ok    bool
	}{{0.1, time.Second, true}, {0.9, 9 * time.Second, true}, {0.91, 0, false}, {1, 0, false}} {
		if got, ok := AnsweredWithin(clients, c.share, fault, now); got != c.want || ok != c.ok {
			t.Errorf("%v of them: %s, %t; want %s, %t", c.share, got, ok, c.want, c.ok)
		}
	}
	if _, ok := AnsweredWithin(nil, 0.9, fault, now); ok {
		t.Error("nobody was answered")
	}
}

func TestARecordIsBounded(t *testing.T) {
	r := newRecord(7)
	now := time.Unix(1000, 0)
	for i := range 3 * maxTurns {
		r.asks(now)
		r.fails(now, fmt.Errorf("failure %d: %w", i, errors.ErrUnsupported))
	}
	c := r.snapshot()
	if len(c.Turns) != maxTurns || c.Turns[maxTurns-1].Error != "failure 191: unsupported operation" {
		t.Errorf("it has %d turns, the last %+v", len(c.Turns), c.Turns[len(c.Turns)-1])
	}
	if c.Failures != 3*maxTurns {
		t.Errorf("it counts %d failures of %d", c.Failures, 3*maxTurns)
	}
}
