package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/rollcall-dev/rollcall/agent/gossip"
)

// gossipKeysEvery is how often the file of keys is looked at. A kubelet brings a
// changed Secret within two minutes.
const gossipKeysEvery = 10 * time.Second

// readGossipKeys reads --gossip-key-file; none where it is empty.
func readGossipKeys(path string) (gossip.Keys, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--gossip-key-file: %w", err)
	}
	keys, err := gossip.ParseKeys(string(raw))
	if err != nil {
		return nil, fmt.Errorf("--gossip-key-file %s does not hold keys of 16, 24 or 32 bytes in base64, a line each: %w", path, err)
	}
	return keys, nil
}

// followGossipKeys hands on the keys of a file whenever they have changed, until
// the context ends. What can't be read, or used, changes nothing.
func followGossipKeys(ctx context.Context, path string, every time.Duration, set func(gossip.Keys) (bool, error), log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		keys, err := readGossipKeys(path)
		changed := false
		if err == nil {
			changed, err = set(keys)
		}
		switch {
		case err != nil:
			log.Warn("Gossip keys could not be exchanged, the former stay", "file", path, "error", err)
		case changed:
			log.Info("Gossip keys exchanged", "keys", len(keys))
		}
	}
}
