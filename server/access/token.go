package access

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rollcall-dev/rollcall/server"
)

// leeway is how far clocks may be apart.
const leeway = 30 * time.Second

// algorithms that tokens may be signed with: none that needs a shared secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// issuer makes tokens.
type issuer struct {
	name     string // for people
	keys     *keys
	audience string
	// identify reads who a verified token names.
	identify func(payload) (identity, error)
}

// payload is what a verified token says: claims that are registered, and all of them.
type payload struct {
	jwt.Claims
	all map[string]any
}

// errNobodys: there is no credential here of a kind that is known here.
var errNobodys = &refusal{whyNobodys}

// identify tells who has shown a credential. A password counts before a
// certificate, which may be just the way in.
func (a *Access) identify(ctx context.Context, c server.Credentials) (identity, error) {
	if len(c.Password) == 0 {
		if c.Certificate == nil {
			return identity{}, errNobodys
		}
		return certificate(c.Certificate)
	}
	if strings.Count(string(c.Password), ".") != 2 {
		return identity{}, errNobodys
	}
	token, err := jwt.ParseSigned(string(c.Password), algorithms)
	if err != nil || len(token.Headers) != 1 {
		return identity{}, errNobodys
	}
	var claimed jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claimed); err != nil {
		return identity{}, &refusal{whyMalformed}
	}
	var unknown error
	for _, i := range a.issuers {
		name, err := i.keys.issuer(ctx)
		if err != nil {
			unknown = err
			continue
		}
		if name == claimed.Issuer {
			return i.verify(ctx, token, name, a.cfg.Now())
		}
	}
	if unknown != nil {
		return identity{}, unknown
	}
	return identity{}, errNobodys
}

// verify checks a token that says it is of this issuer.
func (i *issuer) verify(ctx context.Context, token *jwt.JSONWebToken, name string, now time.Time) (identity, error) {
	candidates, err := i.keys.byID(ctx, token.Headers[0].KeyID)
	if err != nil {
		return identity{}, err
	}
	for _, key := range candidates {
		var p payload
		if token.Claims(key.Key, &p.Claims, &p.all) != nil {
			continue
		}
		if err := i.check(p.Claims, name, now); err != nil {
			return identity{}, err
		}
		return i.identify(p)
	}
	return identity{}, &refusal{whySignature}
}

func (i *issuer) check(c jwt.Claims, name string, now time.Time) error {
	err := c.ValidateWithLeeway(jwt.Expected{Issuer: name, AnyAudience: jwt.Audience{i.audience}, Time: now}, leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidAudience):
		return &refusal{whyAudience}
	case errors.Is(err, jwt.ErrExpired), err == nil && c.Expiry == nil: // one that never ends is nobody's
		return &refusal{whyExpired}
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return &refusal{whyNotYet}
	case err != nil:
		return &refusal{whyMalformed}
	}
	return nil
}
