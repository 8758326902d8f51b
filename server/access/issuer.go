package access

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// +kubebuilder:rbac:urls=/.well-known/openid-configuration;/openid/v1/jwks,verbs=get

// maxKeys bounds a JWKS, in bytes.
const maxKeys = 1 << 20

// cluster is the issuer of ServiceAccounts' tokens, asked through its API server.
func (a *Access) cluster() (*issuer, error) {
	config := rest.CopyConfig(a.cfg.Kubernetes)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, err
	}
	fetch := func(ctx context.Context) (published, error) {
		raw, err := client.Get().AbsPath("/.well-known/openid-configuration").Do(ctx).Raw()
		if err != nil {
			return published{}, fmt.Errorf("the cluster's issuer: %w", err)
		}
		var of struct {
			Issuer string `json:"issuer"`
		}
		if err := json.Unmarshal(raw, &of); err != nil || of.Issuer == "" {
			return published{}, errors.New("the cluster does not say which issuer its tokens are of")
		}
		if raw, err = client.Get().AbsPath("/openid/v1/jwks").Do(ctx).Raw(); err != nil {
			return published{}, fmt.Errorf("the cluster's keys: %w", err)
		}
		keys, err := parseKeys(raw)
		return published{of.Issuer, keys}, err
	}
	return &issuer{
		name: "the cluster", keys: a.keysOf("cluster", fetch), audience: a.cfg.Audience, identify: bound,
	}, nil
}

func (a *Access) keysOf(label string, fetch func(context.Context) (published, error)) *keys {
	count := func(err error) {
		outcome := "fetched"
		if err != nil {
			outcome = "failed"
		}
		a.metrics.fetches.WithLabelValues(label, outcome).Inc()
	}
	for _, outcome := range []string{"fetched", "failed"} {
		a.metrics.fetches.WithLabelValues(label, outcome)
	}
	return newKeys(fetch, a.cfg.Now, a.cfg.Logger.With("issuer", label), count)
}

// bound is whom a ServiceAccount's token names, with the pod and the node that
// it is bound to.
func bound(p payload) (identity, error) {
	of := func(path ...string) string {
		at := p.all["kubernetes.io"]
		for _, name := range path {
			object, _ := at.(map[string]any)
			at = object[name]
		}
		s, _ := at.(string)
		return s
	}
	namespace, name := of("namespace"), of("serviceaccount", "name")
	if namespace == "" || name == "" || p.Subject != "system:serviceaccount:"+namespace+":"+name {
		return identity{}, &refusal{whyName}
	}
	return serviceAccount(namespace, name, of("pod", "name"), of("node", "name")), nil
}

// Issuer makes tokens (JWT) for clients outside the cluster. In RBAC they are the
// User "jwt:NAME", and in the Group "rollcall:jwts".
type Issuer struct {
	// Name is its iss, Audience whom its tokens must be meant for.
	Name, Audience string
	// Keys is its JWKS: a file, or an https URL.
	Keys string
	// Claim holds the client's name; empty: sub. Groups is the claim that lists
	// groups, in RBAC "jwt:GROUP"; empty: none. A dot leads into an object.
	Claim, Groups string
	// HTTP is for tests; nil: a client of its own.
	HTTP *http.Client
}

func (i *Issuer) validate() error {
	if i.Name == "" || i.Audience == "" || i.Keys == "" {
		return errors.New("access: an Issuer needs a Name, an Audience and Keys")
	}
	if u, err := url.Parse(i.Keys); err == nil && strings.Contains(i.Keys, "://") && u.Scheme != "https" {
		return fmt.Errorf("access: keys from %s could be anybody's: the URL must be https", i.Keys)
	}
	i.Claim = cmp.Or(i.Claim, "sub")
	if i.HTTP == nil {
		i.HTTP = &http.Client{}
	}
	return nil
}

func (a *Access) outside(of Issuer) *issuer {
	fetch := func(ctx context.Context) (published, error) {
		raw, err := of.read(ctx)
		if err != nil {
			return published{}, err
		}
		keys, err := parseKeys(raw)
		return published{of.Name, keys}, err
	}
	return &issuer{
		name: of.Name, keys: a.keysOf("outside", fetch), audience: of.Audience, identify: of.identify,
	}
}

func (i *Issuer) read(ctx context.Context) ([]byte, error) {
	if !strings.HasPrefix(i.Keys, "https://") {
		return os.ReadFile(i.Keys)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.Keys, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := i.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", i.Keys, answer.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxKeys+1))
	if err == nil && len(raw) > maxKeys {
		err = fmt.Errorf("the JWKS is longer than %d bytes", maxKeys)
	}
	return raw, err
}

func (i *Issuer) identify(p payload) (identity, error) {
	name, _ := lookUp(p.all, i.Claim).(string)
	if name == "" {
		return identity{}, &refusal{whyName}
	}
	groups := []string{tokenGroup}
	if i.Groups != "" {
		listed, _ := lookUp(p.all, i.Groups).([]any)
		for _, g := range listed {
			if s, ok := g.(string); ok {
				groups = append(groups, tokenPrefix+s)
			}
		}
	}
	return identity{subject: newSubject(tokenPrefix+name, groups), names: []string{name}}, nil
}

// lookUp finds a claim by its name as it is, or else by a path of names.
func lookUp(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	first, rest, ok := strings.Cut(path, ".")
	if !ok {
		return nil
	}
	object, _ := claims[first].(map[string]any)
	return lookUp(object, rest)
}
