package access

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/rollcall-dev/rollcall/server"
)

// publisher is an issuer whose keys change, and that may be away.
type publisher struct {
	mu      sync.Mutex
	keys    []jose.JSONWebKey
	away    bool
	fetches int
}

func (p *publisher) fetch(context.Context) (published, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetches++
	if p.away {
		return published{}, errors.New("away")
	}
	return published{testIssuer, p.keys}, nil
}

func (p *publisher) set(away bool, keys ...jose.JSONWebKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.keys = away, keys
}

func (p *publisher) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

func TestKeysRotate(t *testing.T) {
	first, second, third := newSigner(t, "k1"), newSigner(t, "k2"), newSigner(t, "k3")
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{keys: []jose.JSONWebKey{first.public()}}
		k := newKeys(p.fetch, time.Now, slog.New(slog.DiscardHandler), func(error) {})
		a := verifier(time.Now, &issuer{name: "test", keys: k, audience: "rollcall", identify: bound})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.run(ctx) }()
		try := func(s *signer) error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			now := time.Now().Unix()
			token := s.sign(t, usual(claims{"exp": now + 3600, "nbf": now, "iat": now}))
			_, err := a.identify(ctx, server.Credentials{Password: []byte(token)})
			return err
		}
		check := func(what string, err error, want error) {
			t.Helper()
			if r := (*refusal)(nil); errors.As(err, &r) {
				err = errRefused
			}
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}

		check("the first key", try(first), nil)
		check("a stranger's, right after a fetch", try(third), errRefused)
		if n := p.asked(); n != 1 {
			t.Errorf("%d fetches so far, want 1", n)
		}
		time.Sleep(refreshAtMost)
		p.set(false, first.public(), second.public())
		check("a new key", try(second), nil)
		for range 100 {
			check("a stranger's", try(third), errRefused)
		}
		if n := p.asked(); n != 2 {
			t.Errorf("strangers made it %d fetches, want 2", n)
		}

		p.set(true)
		time.Sleep(refreshEvery + refreshAtMost)
		check("a known key while the issuer is away", try(first), nil)
		check("an unknown key while the issuer is away", try(third), errKeys)
		p.set(false, second.public())
		time.Sleep(2 * maxRetry)
		check("a key that was taken back", try(first), errRefused)
		check("one that was not", try(second), nil)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// errRefused stands for any refusal.
var errRefused = errors.New("refused")

func TestNobodyIsRefusedForGoodWhileTheIssuerIsNotKnown(t *testing.T) {
	s := newSigner(t, "k1")
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{away: true}
		k := newKeys(p.fetch, time.Now, slog.New(slog.DiscardHandler), func(error) {})
		a := verifier(time.Now, &issuer{name: "test", keys: k, audience: "rollcall", identify: bound})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = k.run(ctx) }()
		_, err := a.identify(t.Context(), server.Credentials{Password: []byte(s.sign(t, usual(nil)))})
		if !errors.Is(err, errKeys) {
			t.Errorf("%v, want %v", err, errKeys)
		}
	})
}
