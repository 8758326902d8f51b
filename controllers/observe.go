package controllers

import (
	"context"
	"fmt"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// standIn is this replica as an observer; nil: it is none.
func (c *Config) standIn() *store.StandIn {
	if c.Witness == nil {
		return nil
	}
	s := c.Witness.StandIn()
	return &s
}

// observe has this replica observe servers, where it is assigned to, while it leads.
func (c *Controllers) observe(ctx context.Context) error {
	if c.cfg.Witness == nil {
		return nil
	}
	var last int64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.led:
		}
		t := c.seat.Current()
		if t == nil || t.Term() == last {
			continue
		}
		last = t.Term()
		if err := c.cfg.Witness.Run(t.Context); err != nil {
			return fmt.Errorf("observing servers: %w", err)
		}
	}
}
