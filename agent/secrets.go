package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/agent/probe"
)

const (
	// secretEvery is how long a Secret that is in use is taken to be as it was read.
	secretEvery = time.Minute
	// secretRetry is how soon one is read again that could not be, or that a server
	// has refused; up to half as much again, at random.
	secretRetry = 5 * time.Second
	// secretTimeout ends an attempt to read one.
	secretTimeout = 10 * time.Second
	// secretUnused is how long after its last use a Secret is forgotten.
	secretUnused = 2 * time.Minute

	// The bounds of what becomes headers: those of headers in a Presence.
	maxSecretHeaders = 16
	maxHeaderName    = 256
	maxHeaderValue   = 4096
)

// GetSecret reads what a Secret holds. Its errors are those of the Kubernetes API.
type GetSecret func(ctx context.Context, name types.NamespacedName) (map[string][]byte, error)

// secrets keeps the headers that probes send from Secrets. Only those in use are
// read, and none is for longer than a minute.
type secrets struct {
	get   GetSecret
	log   *slog.Logger
	reads *prometheus.CounterVec
	wake  chan struct{} // cap 1: one is due

	mu   sync.Mutex
	held map[types.NamespacedName]*secret
}

// secret is what is known of one.
type secret struct {
	headers http.Header      // nil: there are none
	none    *probe.Unaskable // why there are none; nil while it was never read
	used    time.Time
	readAt  time.Time // when to read it
}

func newSecrets(get GetSecret, registerer prometheus.Registerer, log *slog.Logger) (*secrets, error) {
	s := &secrets{
		get: get, log: log, wake: make(chan struct{}, 1), held: map[types.NamespacedName]*secret{},
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_agent_secret_reads_total",
			Help: "Attempts to read a Secret with headers of probes: read, refused (it is not there, may not be read, or holds no headers), failed (will be tried again).",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"read", "refused", "failed"} {
		s.reads.WithLabelValues(outcome)
	}
	return s, registerer.Register(s.reads)
}

// of are the credentials that a Secret holds.
func (s *secrets) of(name types.NamespacedName) probe.Credentials { return &credentials{s, name} }

// credentials are a Secret, as a probe sees it.
type credentials struct {
	from *secrets
	name types.NamespacedName
}

// Headers implements probe.Credentials.
func (c *credentials) Headers() (http.Header, *probe.Unaskable) {
	s := c.from
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	held, ok := s.held[c.name]
	if !ok {
		held = &secret{readAt: now}
		s.held[c.name] = held
		poke(s.wake)
	}
	held.used = now
	return held.headers, held.none
}

// Refused implements probe.Credentials.
func (c *credentials) Refused(code int) *probe.Unaskable {
	s := c.from
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, ok := s.held[c.name]; ok {
		// It was read secretEvery before it is due, at most.
		if soon := time.Now().Add(secretRetry); held.readAt.After(soon) {
			held.readAt = soon
			poke(s.wake)
		}
	}
	return &probe.Unaskable{Why: fmt.Sprintf("it answers %d to the headers of Secret %s", code, c.name)}
}

// run reads Secrets until ctx ends.
func (s *secrets) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		name, at := s.next(time.Now())
		if at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake: // another may be due before
		case <-timer.C:
			if !at.IsZero() {
				s.read(ctx, name)
			}
		}
	}
}

// next is the Secret that is due first, once those that nobody uses are
// forgotten; a zero time: none is.
func (s *secrets) next(now time.Time) (name types.NamespacedName, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, held := range s.held {
		if now.Sub(held.used) >= secretUnused {
			delete(s.held, n)
			continue
		}
		if at.IsZero() || held.readAt.Before(at) {
			name, at = n, held.readAt
		}
	}
	return name, at
}

// read reads a Secret. What was known stands where the API doesn't answer, and not
// where it says no.
func (s *secrets) read(ctx context.Context, name types.NamespacedName) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	data, err := s.get(ctx, name)
	cancel()
	var headers http.Header
	var why string
	outcome, next := "refused", secretRetry+rand.N(secretRetry/2)
	switch {
	case apierrors.IsNotFound(err):
		why = fmt.Sprintf("Secret %s does not exist", name)
	case apierrors.IsForbidden(err):
		why = fmt.Sprintf("Secret %s may not be read: give the agents' service account the right to get it, by a Role in namespace %s", name, name.Namespace)
	case err != nil:
		outcome, why = "failed", fmt.Sprintf("Secret %s could not be read yet", name)
	default:
		if headers, err = headersOf(data); err != nil {
			why = fmt.Sprintf("Secret %s: %v", name, err)
			break
		}
		outcome, next = "read", secretEvery+rand.N(secretEvery/10)
	}
	s.reads.WithLabelValues(outcome).Inc()

	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.held[name]
	if !ok {
		return
	}
	held.readAt = time.Now().Add(next)
	if outcome == "failed" && (held.headers != nil || held.none != nil) {
		s.log.Warn("Secret could not be read again", "secret", name, "error", err)
		return
	}
	none := (*probe.Unaskable)(nil)
	if why != "" {
		none = &probe.Unaskable{Why: why}
		if held.none == nil || held.none.Why != why {
			s.log.Warn("Servers are not asked with headers from a Secret", "secret", name, "why", why, "error", err)
		}
	}
	held.headers, held.none = headers, none
}

// headerName is what a key of a Secret must be, as in a Presence.
var headerName = regexp.MustCompile(`^[-A-Za-z0-9_]+$`)

// headersOf makes headers of what a Secret holds. Its errors name keys alone.
func headersOf(data map[string][]byte) (http.Header, error) {
	switch {
	case len(data) == 0:
		return nil, errors.New("it is empty: each key must be the name of a header, such as Authorization")
	case len(data) > maxSecretHeaders:
		return nil, fmt.Errorf("it has %d keys, which are headers: at most %d", len(data), maxSecretHeaders)
	}
	headers := http.Header{}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		value := strings.TrimRight(string(data[key]), "\r\n") // a file's last line ends
		reserved := slices.Contains([]string{"host", "connection", "content-length", "transfer-encoding"}, strings.ToLower(key))
		switch {
		case len(key) > maxHeaderName, reserved, !headerName.MatchString(key):
			return nil, fmt.Errorf("key %q must be the name of a header, and none of Host, Connection, Content-Length and Transfer-Encoding", key)
		case len(value) > maxHeaderValue:
			return nil, fmt.Errorf("key %q: the header has %d bytes, at most %d", key, len(value), maxHeaderValue)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
			return nil, fmt.Errorf("key %q must hold printable ASCII in one line", key)
		}
		headers.Set(key, value)
	}
	return headers, nil
}
