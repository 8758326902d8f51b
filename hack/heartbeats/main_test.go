package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestThePageIsFresh(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	text, err := os.ReadFile(filepath.Join(docs, "heartbeats.md"))
	if err != nil {
		t.Fatal(err)
	}
	if renewed, err := renew(string(text)); err != nil || renewed != string(text) {
		t.Errorf("the table of docs/heartbeats.md is stale (%v): make docs-heartbeats", err)
	}
	arrivals, err := leaving(filepath.Join(docs, "assets"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"heartbeats.svg": costs(), "leaving.svg": arrivals} {
		if got, err := os.ReadFile(filepath.Join(docs, "assets", name)); err != nil || string(got) != want {
			t.Errorf("docs/assets/%s is stale (%v): make docs-heartbeats", name, err)
		}
	}
}
