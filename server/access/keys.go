package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// refreshEvery is how often keys are fetched at rest: one that was taken back
	// is good for no longer.
	refreshEvery = 10 * time.Minute
	// refreshAtMost is how soon after a fetch an unknown key leads to another:
	// strangers can name any number of them.
	refreshAtMost = 10 * time.Second
	// minRetry and maxRetry bound the wait after a fetch that failed, at random.
	minRetry, maxRetry = time.Second, time.Minute
	// fetchWithin bounds a fetch.
	fetchWithin = 10 * time.Second
)

// published is what an issuer says of itself.
type published struct {
	issuer string
	keys   []jose.JSONWebKey
}

// keys are an issuer's, kept up to date by run. While it is away, they are
// those that it had.
type keys struct {
	fetch   func(context.Context) (published, error)
	now     func() time.Time
	log     *slog.Logger
	fetched func(err error) // for counting

	asked chan struct{} // cap 1: an unknown key was named; sent to with mu held

	mu        sync.Mutex
	known     *published    // nil: never fetched
	attempted time.Time     // when the last fetch ended
	failed    bool          // it failed
	next      chan struct{} // closed, and replaced, when a fetch ends
}

func newKeys(fetch func(context.Context) (published, error), now func() time.Time, log *slog.Logger, fetched func(error)) *keys {
	return &keys{fetch: fetch, now: now, log: log, fetched: fetched, asked: make(chan struct{}, 1), next: make(chan struct{})}
}

// run fetches until the context ends.
func (k *keys) run(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		wait := refreshEvery
		if err := k.refresh(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("Keys could not be fetched, those before stay", "error", err)
			wait = rand.N(min(minRetry<<min(failures, 10), maxRetry)) + minRetry/2
			failures++
		} else {
			failures = 0
		}
		again := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-again.C:
		case <-k.asked:
		}
		again.Stop()
	}
	return nil
}

func (k *keys) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	p, err := k.fetch(ctx)
	k.fetched(err)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.attempted, k.failed = k.now(), err != nil
	if err == nil {
		k.known = &p
	}
	select {
	case <-k.asked: // this fetch is the answer
	default:
	}
	close(k.next)
	k.next = make(chan struct{})
	return err
}

func (k *keys) loaded() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known != nil
}

// errKeys: whether a key is the issuer's can't be told now.
var errKeys = errors.New("the issuer's keys cannot be fetched now")

// issuer is its name, as far as it is known.
func (k *keys) issuer(ctx context.Context) (string, error) {
	if _, err := k.find(ctx, func(published) bool { return true }); err != nil {
		return "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known.issuer, nil
}

// byID are the keys of that id; all, where it is empty; none, where there is
// none even after another fetch.
func (k *keys) byID(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	var found []jose.JSONWebKey
	_, err := k.find(ctx, func(p published) bool {
		found = nil
		for _, key := range p.keys {
			if id == "" || key.KeyID == id {
				found = append(found, key)
			}
		}
		return len(found) > 0
	})
	return found, err
}

// find tells whether what is published satisfies has, after another fetch where
// that might help.
func (k *keys) find(ctx context.Context, has func(published) bool) (bool, error) {
	for fresh := false; ; fresh = true {
		k.mu.Lock()
		ok := k.known != nil && has(*k.known)
		settled := fresh || !k.attempted.IsZero() && k.now().Sub(k.attempted) < refreshAtMost
		failed, next := k.failed || k.known == nil, k.next
		if !ok && !settled {
			select {
			case k.asked <- struct{}{}:
			default: // somebody has
			}
		}
		k.mu.Unlock()
		switch {
		case ok:
			return true, nil
		case settled && failed:
			return false, errKeys
		case settled:
			return false, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return false, errKeys
		}
	}
}

// parseKeys reads a JWKS (RFC 7517). Keys that are not for verifying signatures,
// or no public ones, are left out.
func parseKeys(raw []byte) ([]jose.JSONWebKey, error) {
	// One by one: a key of a kind that is not known must not hide the others.
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("not a JWKS: %w", err)
	}
	var usable []jose.JSONWebKey
	for _, one := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(one) == nil && key.Valid() && key.IsPublic() && key.Use != "enc" {
			usable = append(usable, key)
		}
	}
	if len(usable) == 0 {
		return nil, errors.New("the JWKS holds no public key to verify with")
	}
	return usable, nil
}
