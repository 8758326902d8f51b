// Package access decides who may come in to a heartbeat server, and as whom.
// Who somebody is, a credential says: a ServiceAccount's token, a token of an
// issuer outside the cluster, or a client certificate; each is verified here,
// with keys that were fetched before. What they may do, the cluster's RBAC says,
// evaluated here from a watch. So arrivals cost the API server nothing, and
// while it is away everybody may do what they might before. Its own word is
// asked for in the background, and counts where it differs.
//
// It holds no sessions: to end those whose right was taken back is the server's.
package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/rollcall-dev/rollcall/server"
)

// DefaultAudience is whom a ServiceAccount's token must be meant for.
const DefaultAudience = "rollcall"

// Config is what an Access is made of. Kubernetes, Namespace, Logger and
// Registerer are required.
type Config struct {
	// Kubernetes is the API server whose RBAC counts.
	Kubernetes *rest.Config
	// Namespace is the installation's: the nodes that report are members of a
	// Presence there.
	Namespace string
	// ServiceAccounts lets in those of the cluster, with a token for Audience;
	// empty: DefaultAudience.
	ServiceAccounts bool
	Audience        string
	// Outside is an issuer of tokens outside the cluster; nil: none.
	Outside *Issuer
	// Others are asked about those who show neither a token of an issuer nor a
	// certificate; nil: they are refused.
	Others server.Authenticator
	// Now is for tests; nil: time.Now.
	Now func() time.Time

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	switch {
	case c.Kubernetes == nil, c.Logger == nil, c.Registerer == nil:
		return errors.New("access: Kubernetes, Logger and Registerer are needed")
	case c.Namespace == "":
		return errors.New("access: Namespace is needed")
	}
	c.Audience = cmp.Or(c.Audience, DefaultAudience)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Outside != nil {
		return c.Outside.validate()
	}
	return nil
}

// Access is a server.Authenticator and server.Revalidator.
type Access struct {
	cfg     Config
	metrics *metrics
	issuers []*issuer
	policy  *policy
	watch   *watch
	reviews *reviews
	known   known
}

var (
	_ server.Authenticator = (*Access)(nil)
	_ server.Revalidator   = (*Access)(nil)
	_ server.Watchers      = (*Access)(nil)
)

// New makes an Access. Nothing is asked of anybody before Run.
func New(cfg Config) (*Access, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	a := &Access{cfg: cfg, metrics: newMetrics(cfg.Registerer), policy: newPolicy()}
	if cfg.ServiceAccounts {
		i, err := a.cluster()
		if err != nil {
			return nil, fmt.Errorf("access: %w", err)
		}
		a.issuers = append(a.issuers, i)
	}
	if cfg.Outside != nil {
		a.issuers = append(a.issuers, a.outside(*cfg.Outside))
	}
	var err error
	if a.watch, err = newWatch(cfg.Kubernetes, a.policy, cfg.Logger); err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	ask, err := askAPI(cfg.Kubernetes)
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	a.reviews = newReviews(ask, a.policy.rights, a)
	return a, nil
}

// Run keeps keys and roles up to date until the context ends.
func (a *Access) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, i := range a.issuers {
		group.Go(func() error { return i.keys.run(ctx) })
	}
	group.Go(func() error { return a.watch.run(ctx) })
	group.Go(func() error { return a.reviews.run(ctx) })
	group.Go(func() error { return a.known.run(ctx, a.cfg.Now) })
	return group.Wait()
}

// errRoles: RBAC is not known yet.
var errRoles = errors.New("roles and their bindings are not known yet: has the Kubernetes API answered?")

// Ready tells why nobody can be let in yet, nil when they can. The API's being
// away later does not change it.
func (a *Access) Ready() error {
	if !a.watch.synced() {
		return errRoles
	}
	for _, i := range a.issuers {
		if !i.keys.loaded() {
			return fmt.Errorf("the keys of %s are not known yet", i.name)
		}
	}
	return nil
}

// Authenticate tells who has shown a credential, and what they may do as the
// client that they say they are.
func (a *Access) Authenticate(ctx context.Context, c server.Credentials) (server.Principal, error) {
	who, err := a.identify(ctx, c)
	switch {
	case errors.Is(err, errNobodys) && a.cfg.Others != nil:
		return a.others(ctx, c)
	case err != nil:
		return server.Principal{}, a.refused(c, err)
	case !a.watch.synced():
		return server.Principal{}, errRoles
	}
	has := a.rights(question{who.subject, c.Namespace, c.Presence})
	rights := who.narrow(c, has, a.cfg.Namespace)
	if !rights.Has(server.Connect) {
		a.cfg.Logger.Debug("Client has no right to connect so", "user", who.subject.Value().user,
			"presence", c.Namespace+"/"+c.Presence, "client", c.ClientID, "connect", has.Has(server.Connect), "report", has.Has(server.Report))
	}
	if rights != 0 {
		a.known.note(who.subject, a.cfg.Now())
	}
	return server.Principal{Name: who.subject.Value().user, Rights: rights}, nil
}

// others asks those who know what is not known here. Nobody whom they know may be
// called like somebody of here.
func (a *Access) others(ctx context.Context, c server.Credentials) (server.Principal, error) {
	p, err := a.cfg.Others.Authenticate(ctx, c)
	if err == nil && reserved(p.Name) {
		a.cfg.Logger.Warn("Another authenticator's principal has a name that is reserved, and is refused", "principal", p.Name)
		return server.Principal{}, server.ErrCredentials
	}
	return p, err
}

// refused counts why a credential is not taken. The reason goes no further than
// the log, and the credential not even there.
func (a *Access) refused(c server.Credentials, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err // it can't be told now
	}
	a.metrics.refusals.WithLabelValues(string(r.why)).Inc()
	a.cfg.Logger.Debug("Credential was refused", "reason", r.why, "remote", c.RemoteAddr, "client", c.ClientID)
	return server.ErrCredentials
}

// Revalidate tells what a principal may do now.
func (a *Access) Revalidate(namespace, presence, principal string) server.Rights {
	subject, ok := a.known.find(principal, a.cfg.Now())
	switch {
	case ok:
		return a.rights(question{subject, namespace, presence})
	case reserved(principal):
		return 0 // forgotten, after this process was stopped for long: they may show their credential again
	}
	return server.AllRights // Others let them in
}

// MayWatch tells whether a principal may watch a Presence.
func (a *Access) MayWatch(namespace, presence, principal string) bool {
	subject, ok := a.known.find(principal, a.cfg.Now())
	switch {
	case ok:
		return a.rights(question{subject, namespace, presence}).Has(server.Watch)
	case reserved(principal):
		return false
	}
	others, ok := a.cfg.Others.(server.Watchers)
	return ok && others.MayWatch(namespace, presence, principal)
}

// question is what RBAC is asked.
type question struct {
	subject             subjectHandle
	namespace, presence string
}

func (a *Access) rights(q question) server.Rights {
	return a.reviews.correct(q, a.policy.rights(q))
}
