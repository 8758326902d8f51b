package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/server"
)

const (
	testIssuer = "https://kubernetes.default.svc.cluster.local"
	// noon is when the tests of tokens happen.
	noon = 1_800_000_000
)

// signer makes tokens with one key.
type signer struct {
	id      string
	private *ecdsa.PrivateKey
}

func newSigner(t testing.TB, id string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, key}
}

func (s *signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.private.Public(), KeyID: s.id, Algorithm: "ES256", Use: "sig"}
}

type claims = map[string]any

func (s *signer) sign(t testing.TB, c claims) string {
	t.Helper()
	return signed(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.private, KeyID: s.id}}, c)
}

func signed(t testing.TB, key jose.SigningKey, c claims) string {
	t.Helper()
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	made, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	object, err := made.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// usual is what the token of a pod of im/app says, with changes.
func usual(changes claims) claims {
	c := claims{
		"iss": testIssuer, "aud": []string{"rollcall"}, "sub": "system:serviceaccount:im:app",
		"exp": noon + 3600, "nbf": noon, "iat": noon,
		"kubernetes.io": claims{
			"namespace": "im", "serviceaccount": claims{"name": "app", "uid": "u"},
			"pod": claims{"name": "app-7d4f-x2x", "uid": "p"}, "node": claims{"name": "n1", "uid": "n"},
		},
	}
	for k, v := range changes {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

// verifier is an Access that knows issuers, and no API server.
func verifier(now func() time.Time, issuers ...*issuer) *Access {
	return &Access{
		cfg:     Config{Now: now, Logger: slog.New(slog.DiscardHandler)},
		metrics: newMetrics(prometheus.NewRegistry()), issuers: issuers,
	}
}

// always publishes the same keys.
func always(t *testing.T, name string, public ...jose.JSONWebKey) *keys {
	t.Helper()
	k := newKeys(func(context.Context) (published, error) { return published{name, public}, nil },
		time.Now, slog.New(slog.DiscardHandler), func(error) {})
	if err := k.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTokens(t *testing.T) {
	s, stranger := newSigner(t, "k1"), newSigner(t, "k1")
	der, err := json.Marshal(s.public().Key)
	if err != nil {
		t.Fatal(err)
	}
	good := s.sign(t, usual(nil))
	parts := strings.Split(good, ".")
	forged, err := json.Marshal(usual(claims{"sub": "system:serviceaccount:im:admin"}))
	if err != nil {
		t.Fatal(err)
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"k1"}`)) + "." + parts[1] + "."
	flipped := []byte(good)
	if at := len(flipped) - 10; flipped[at] == 'A' { // still base64
		flipped[at] = 'B'
	} else {
		flipped[at] = 'A'
	}

	for _, tt := range []struct {
		name  string
		token string
		want  why // "": it is taken
	}{
		{"a good one", good, ""},
		{"one that has just ended", s.sign(t, usual(claims{"exp": noon - 29})), ""},
		{"one that has ended", s.sign(t, usual(claims{"exp": noon - 31})), whyExpired},
		{"one that never ends", s.sign(t, usual(claims{"exp": nil})), whyExpired},
		{"one that begins just now", s.sign(t, usual(claims{"nbf": noon + 29})), ""},
		{"one that begins later", s.sign(t, usual(claims{"nbf": noon + 31})), whyNotYet},
		{"one from the future", s.sign(t, usual(claims{"iat": noon + 31})), whyNotYet},
		{"one for somebody else", s.sign(t, usual(claims{"aud": []string{"https://kubernetes.default.svc"}})), whyAudience},
		{"one for somebody else too", s.sign(t, usual(claims{"aud": []string{"vault", "rollcall"}})), ""},
		{"one for nobody", s.sign(t, usual(claims{"aud": nil})), whyAudience},
		{"one of another issuer", s.sign(t, usual(claims{"iss": "https://example.org"})), whyNobodys},
		{"one of no issuer", s.sign(t, usual(claims{"iss": nil})), whyNobodys},
		{"one signed by a stranger", stranger.sign(t, usual(nil)), whySignature},
		{"one of a key that nobody knows", (&signer{"k2", s.private}).sign(t, usual(nil)), whySignature},
		{"other claims under the signature", parts[0] + "." + base64.RawURLEncoding.EncodeToString(forged) + "." + parts[2], whySignature},
		{"another signature", string(flipped), whySignature},
		{"no signature at all", none, whyNobodys},
		{"a public key taken for a secret", signed(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: der, KeyID: "k1"}}, usual(nil)), whyNobodys},
		{"one whose subject is another", s.sign(t, usual(claims{"sub": "system:serviceaccount:im:admin"})), whyName},
		{"one that is no ServiceAccount's", s.sign(t, usual(claims{"kubernetes.io": nil})), whyName},
		{"claims of other types", s.sign(t, usual(claims{"kubernetes.io": "im"})), whyName},
		{"a payload that is no object", signed(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.private, KeyID: "k1"}}, nil), whyNobodys},
		{"dots", "..", whyNobodys},
		{"a password", "hunter2", whyNobodys},
		{"nothing", "", whyNobodys},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := verifier(func() time.Time { return time.Unix(noon, 0) },
				&issuer{name: "test", keys: always(t, testIssuer, s.public()), audience: "rollcall", identify: bound})
			who, err := a.identify(t.Context(), server.Credentials{Password: []byte(tt.token)})
			if tt.want != "" {
				var r *refusal
				if !errors.As(err, &r) || r.why != tt.want {
					t.Fatalf("%v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if who.subject.Value().user != "system:serviceaccount:im:app" || who.node != "n1" || !who.proves("app-7d4f-x2x") {
				t.Errorf("taken for %+v", who)
			}
		})
	}
}

func TestAnIssuerOutsideTheCluster(t *testing.T) {
	s := newSigner(t, "")
	mixed := struct {
		Keys []any `json:"keys"`
	}{[]any{
		map[string]string{"kty": "new", "kid": "from tomorrow"}, s.public(),
		map[string]string{"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
	}}
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(mixed)
	}))
	defer site.Close()
	config := Issuer{Name: "https://login.example.org", Audience: "fleet", Keys: site.URL + "/keys", Claim: "device.id", Groups: "roles", HTTP: site.Client()}
	if err := config.validate(); err != nil {
		t.Fatal(err)
	}
	a := verifier(func() time.Time { return time.Unix(noon, 0) })
	a.issuers = []*issuer{a.outside(config)}
	if err := a.issuers[0].keys.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	who, err := a.identify(t.Context(), server.Credentials{Password: []byte(s.sign(t, claims{
		"iss": "https://login.example.org", "aud": "fleet", "exp": noon + 60,
		"device": claims{"id": "car-1"}, "roles": []any{"cars", 7},
	}))})
	if err != nil {
		t.Fatal(err)
	}
	got := who.subject.Value()
	if got.user != "jwt:car-1" || strings.Join(got.groupList(), " ") != "jwt:cars rollcall:jwts" || !who.proves("car-1") {
		t.Errorf("taken for %+v", got)
	}
	nameless := s.sign(t, claims{"iss": "https://login.example.org", "aud": "fleet", "exp": noon + 60, "sub": "car-1"})
	if _, err := a.identify(t.Context(), server.Credentials{Password: []byte(nameless)}); err == nil {
		t.Error("a token without the claim is somebody")
	}
}

// BenchmarkArrival is what a client's credential costs: nobody is asked.
func BenchmarkArrival(b *testing.B) {
	s := newSigner(b, "k1")
	a := verifier(func() time.Time { return time.Unix(noon, 0) })
	k := newKeys(func(context.Context) (published, error) {
		return published{testIssuer, []jose.JSONWebKey{s.public()}}, nil
	},
		time.Now, slog.New(slog.DiscardHandler), func(error) {})
	if err := k.refresh(b.Context()); err != nil {
		b.Fatal(err)
	}
	a.issuers = []*issuer{{name: "test", keys: k, audience: "rollcall", identify: bound}}
	c := server.Credentials{Password: []byte(s.sign(b, usual(nil)))}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.identify(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

func TestKeysComeFromWhereNobodyCanChangeThem(t *testing.T) {
	for _, keys := range []string{"", "http://example.org/keys", "ftp://example.org/keys"} {
		i := Issuer{Name: "n", Audience: "a", Keys: keys}
		if i.validate() == nil {
			t.Errorf("%q is let pass", keys)
		}
	}
	s := newSigner(t, "k")
	raw, err := json.Marshal(map[string]any{"keys": []any{jose.JSONWebKey{Key: s.private, KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseKeys(raw); err == nil {
		t.Error("a private key that somebody has published is taken")
	}
}
