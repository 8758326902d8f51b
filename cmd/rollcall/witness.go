package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/rollcall-dev/rollcall/agent/witness"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// witnessOptions have a part observe servers where too few agents can.
type witnessOptions struct {
	tlsClientOptions
	tokenFile string
	// node and zone are where the part runs.
	node, zone string
}

// flags are those that each part has; prefix tells them from a server's own.
func (o *witnessOptions) flags(f *pflag.FlagSet, prefix string) {
	o.tlsClientOptions.prefix = prefix
	o.tlsClientOptions.flags(f)
	f.StringVar(&o.tokenFile, prefix+"token-file", "", "`file` with a credential of this node that may report, read anew at each connection: with it this part observes servers where too few agents can; empty: it does not")
}

func (o *witnessOptions) check(c *checks) {
	o.tlsClientOptions.check(c)
	if o.tokenFile != "" && o.node == "" {
		c.fail("node", "is needed with --%stoken-file", o.prefix)
	}
}

// witness is nil where this part observes nobody. name is its own in reports,
// namespace the installation's.
func (o *witnessOptions) witness(s *store.Store, name, namespace string, log *slog.Logger, metrics prometheus.Registerer) (*witness.Witness, error) {
	if o.tokenFile == "" {
		log.Info("This part observes no servers, however few agents there are: it has no credential for it")
		return nil, nil
	}
	secure, err := o.config(log)
	if err != nil {
		return nil, fmt.Errorf("how to observe: %w", err)
	}
	return witness.New(witness.Config{
		Name: name, Node: o.node, Zone: o.zone, Boot: time.Now().UnixNano(), Presence: namespace + "/nodes",
		Token: token(o.tokenFile), TLS: secure, Store: s, Logger: log, Registerer: metrics,
	})
}
