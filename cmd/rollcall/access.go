package main

import (
	"github.com/spf13/pflag"

	"github.com/rollcall-dev/rollcall/server"
	"github.com/rollcall-dev/rollcall/server/access"
)

// accessOptions say who may come in to a heartbeat server.
type accessOptions struct {
	tokens          string
	anonymous       bool
	serviceAccounts bool
	audience        string
	jwt             access.Issuer
}

func (o *accessOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.tokens, "tokens", "", "`file` of credentials: a line each, TOKEN PRINCIPAL RIGHTS (connect, report, watch; comma separated)")
	f.BoolVar(&o.anonymous, "anonymous", false, "let clients without a credential connect (they never report)")
	f.BoolVar(&o.serviceAccounts, "service-accounts", false, "let ServiceAccounts of the cluster connect, with the rights on presences/clients that RBAC gives them")
	f.StringVar(&o.audience, "audience", access.DefaultAudience, "whom a ServiceAccount's token must be meant for")
	f.StringVar(&o.jwt.Name, "jwt-issuer", "", "`issuer` (iss) of tokens for clients outside the cluster; RBAC knows them as User jwt:NAME")
	f.StringVar(&o.jwt.Audience, "jwt-audience", "", "whom those tokens must be meant for (aud)")
	f.StringVar(&o.jwt.Keys, "jwt-keys", "", "JWKS of that issuer: a `file`, or an https URL")
	f.StringVar(&o.jwt.Claim, "jwt-claim", "sub", "`claim` with the client's name; a dot leads into an object")
	f.StringVar(&o.jwt.Groups, "jwt-groups-claim", "", "`claim` that lists groups, in RBAC jwt:GROUP; empty: none")
}

// rbac tells whether anybody's rights are RBAC's to say.
func (o *accessOptions) rbac(certificates bool) bool {
	return o.serviceAccounts || o.jwt.Name != "" || certificates
}

func (o *accessOptions) check(c *checks, certificates bool) {
	if o.tokens == "" && !o.anonymous && !o.rbac(certificates) {
		c.fail("tokens", "is needed, unless --service-accounts, --jwt-issuer or --tls-client-ca lets in others, or --anonymous everyone")
	}
	if o.jwt.Name != "" {
		c.needed("jwt-audience", o.jwt.Audience)
		c.needed("jwt-keys", o.jwt.Keys)
		c.needed("jwt-claim", o.jwt.Claim)
	} else if o.jwt.Audience != "" || o.jwt.Keys != "" {
		c.fail("jwt-issuer", "is needed with --jwt-audience and --jwt-keys")
	}
	if o.serviceAccounts {
		c.needed("audience", o.audience)
	}
}

// others are those whose rights a file says; nil: there are none.
func (o *accessOptions) others() (server.Authenticator, error) {
	if o.tokens == "" && !o.anonymous {
		return nil, nil
	}
	return server.NewAuthenticator(o.tokens, o.anonymous)
}

// access is nil where RBAC says nobody's rights.
func (o *accessOptions) access(certificates bool, c access.Config) (*access.Access, error) {
	if !o.rbac(certificates) {
		return nil, nil
	}
	c.ServiceAccounts, c.Audience = o.serviceAccounts, o.audience
	if o.jwt.Name != "" {
		c.Outside = &o.jwt
	}
	return access.New(c)
}
