package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/explain"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func (p *plugin) whoCommand() *cobra.Command {
	var o output
	var presence string
	cmd := &cobra.Command{
		Use:   "who CLIENT",
		Short: "Where a client is, or was last",
		Long: `Print on which server a client is, for each Presence that knows its id.

Sessions are in etcd and not in the Kubernetes API. So a controller is asked,
through the API server (the right to get pods/proxy in Rollcall's namespace) or
at --controller. Whether a beat is late is known to the client's server alone.`,
		Example: `  kubectl presence who phone-4711
  kubectl presence who phone-4711 --presence im/android`,
		Args: one("client"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			s, err := p.who(cmd.Context(), args[0], presence)
			if err != nil {
				return err
			}
			if o.format != "" {
				return o.print(p.out, s)
			}
			return failed(writeSessions(p.out, s.Sessions, p.now()))
		},
	}
	o.flag(cmd)
	cmd.Flags().StringVar(&presence, "presence", "", "`NAMESPACE/NAME` of the client's Presence; empty: all of them")
	return cmd
}

func (p *plugin) who(ctx context.Context, id, presence string) (*explain.Sessions, error) {
	if !wire.ValidClientID(id) {
		return nil, fmt.Errorf("%q can't be the id of a client: that is at most 128 of A-Z, a-z, 0-9, dot, underscore, colon and dash", id)
	}
	c, err := p.connect()
	if err != nil {
		return nil, err
	}
	query := url.Values{"client": {id}}
	if presence != "" {
		if !strings.Contains(presence, "/") {
			presence = c.namespace + "/" + presence
		}
		if _, _, err := wire.ParseUserName(presence); err != nil {
			return nil, fmt.Errorf("--presence %q is not NAMESPACE/NAME", presence)
		}
		query.Set("presence", presence)
		var of v1alpha1.Presence
		namespace, name, _ := strings.Cut(presence, "/")
		if p.controller == "" && c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &of) == nil { // else the default is asked, which says more
			p.turnTo(&of)
		}
	}
	answers, err := p.ask(ctx, c, explain.SessionsPath, query)
	if err != nil {
		return nil, fail("where a client is, is in etcd, and no controller could be asked: %w; --controller asks one at its own address", err)
	}
	var s explain.Sessions
	if err := json.Unmarshal(answers[0], &s); err != nil {
		return nil, fail("the controller's answer is not understood: it is of another version (%w)", err)
	}
	if len(s.Sessions) == 0 {
		under := "any Presence of clients"
		if presence != "" {
			under = "Presence " + presence
		}
		return nil, fail("no client %s is known under %s: its id may differ, or it has been away for longer than clients.retention", id, under)
	}
	return &s, nil
}

func writeSessions(w io.Writer, all []explain.Session, now time.Time) error {
	rows := [][]string{{"PRESENCE", "STATE", "SERVER", "SERVER IS", "FOR", "LAST SEEN", "BEATS EVERY"}}
	for _, s := range all {
		seen := "-"
		if !s.LastSeen.IsZero() {
			seen = age(s.LastSeen, now) + " ago"
		}
		every := "-"
		if s.Interval.Duration > 0 {
			every = s.Interval.Duration.String()
		}
		rows = append(rows, []string{s.Presence, clientState(s), s.Server, dash(s.ServerState), dash(age(s.Since, now)), seen, every})
	}
	return table(w, "", rows...)
}

// clientState is the client's, as far as its record and its server's verdict say.
func clientState(s explain.Session) string {
	switch {
	case !s.Online:
		return string(verdict.Offline)
	case verdict.State(s.ServerState).Bad():
		return string(verdict.Orphaned)
	default:
		return string(verdict.Online)
	}
}
