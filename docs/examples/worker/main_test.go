package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/clienttest"
)

func TestMain(m *testing.M) {
	clienttest.Main()
	m.Run()
}

func TestOthersSeeTheWorkerComeWorkAndGo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	s := clienttest.Start(t, clienttest.Config{Servers: 1})
	limit, done := context.WithTimeout(t.Context(), 2*time.Minute)
	defer done()
	cfg := client.Config{Servers: s.Addresses(), Presence: clienttest.Presence, ClientID: "boss", AckTimeout: 10 * time.Second}
	boss, err := client.Dial(limit, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer boss.Close()
	ctx, stop := context.WithCancel(limit)
	defer stop()
	ended := make(chan error, 1)
	cfg.ClientID = "worker-1"
	go func() { ended <- run(ctx, cfg, io.Discard) }()
	worked, gone := false, false
	for change, err := range boss.Watch(limit, clienttest.Presence, "worker-1") {
		if err != nil {
			t.Fatal(err)
		}
		if change.Attributes["doing"] == "work" && change.Online && !worked {
			worked = true
			stop()
		}
		if gone = worked && !change.Online; gone {
			break
		}
	}
	if !worked || !gone {
		t.Errorf("seen at work: %v, seen to go: %v", worked, gone)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
