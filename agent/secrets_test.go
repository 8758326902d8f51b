package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// vault is what GetSecret asks.
type vault struct {
	mu    sync.Mutex
	data  map[string][]byte
	err   error
	asked int
}

func (v *vault) get(context.Context, types.NamespacedName) (map[string][]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked++
	return v.data, v.err
}

func (v *vault) set(data map[string][]byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.data, v.err = data, err
}

func (v *vault) reads() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asked
}

// keep runs secrets until the test ends.
func keep(t *testing.T, get GetSecret) *secrets {
	t.Helper()
	s, err := newSecrets(get, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

var webProbe = types.NamespacedName{Namespace: "im", Name: "web-probe"}

func notFound() error  { return apierrors.NewNotFound(corev1.Resource("secrets"), webProbe.Name) }
func forbidden() error { return apierrors.NewForbidden(corev1.Resource("secrets"), webProbe.Name, nil) }

// expect compares what c says; none "" is: headers, and an empty authorization: neither.
func expect(t *testing.T, c probe.Credentials, authorization, none string) {
	t.Helper()
	h, why := c.Headers()
	switch {
	case why == nil && none != "", why != nil && (none == "" || !strings.Contains(why.Why, none)):
		t.Errorf("it says %v, want %q", why, none)
	case h.Get("Authorization") != authorization:
		t.Errorf("headers %v, want %q", h, authorization)
	}
}

func TestSecretsAreReadWhenTheyAreUsedAndOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{data: map[string][]byte{"authorization": []byte("Bearer one\n")}}
		s := keep(t, v.get)
		c := s.of(webProbe)
		time.Sleep(time.Hour)
		if v.reads() != 0 {
			t.Errorf("read %d times before it was used", v.reads())
		}
		expect(t, c, "", "") // it is being read
		synctest.Wait()
		expect(t, c, "Bearer one", "")
		expect(t, s.of(webProbe), "Bearer one", "") // for another pod
		v.set(map[string][]byte{"Authorization": []byte("Bearer two")}, nil)
		time.Sleep(secretEvery * 11 / 10)
		expect(t, c, "Bearer two", "")
		if v.reads() != 2 {
			t.Errorf("read %d times, want 2", v.reads())
		}
		time.Sleep(time.Hour)
		if n := v.reads(); n > 5 {
			t.Errorf("read %d times while nobody used it", n)
		}
		if _, at := s.next(time.Now()); !at.IsZero() {
			t.Error("it is still held")
		}
	})
}

func TestSecretsThatAreNotToBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{err: errors.New("connection refused")}
		c := keep(t, v.get).of(webProbe)
		next := func() { time.Sleep(secretRetry * 3 / 2) }
		expect(t, c, "", "")
		synctest.Wait()
		expect(t, c, "", "Secret im/web-probe could not be read yet")
		v.set(nil, notFound())
		next()
		expect(t, c, "", "Secret im/web-probe does not exist")
		v.set(nil, forbidden())
		next()
		expect(t, c, "", "by a Role in namespace im")
		v.set(map[string][]byte{"ca.crt": []byte("a")}, nil)
		next()
		expect(t, c, "", `key "ca.crt" must be the name of a header`)
		v.set(map[string][]byte{"Authorization": []byte("Bearer one")}, nil)
		next()
		expect(t, c, "Bearer one", "")

		v.set(nil, errors.New("connection refused"))
		time.Sleep(secretEvery * 11 / 10)
		expect(t, c, "Bearer one", "") // what was known stands
		v.set(nil, notFound())
		next()
		expect(t, c, "", "does not exist") // and not when it was deleted
	})
}

func TestASecretThatIsRefusedIsReadAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{data: map[string][]byte{"Authorization": []byte("Bearer one")}}
		c := keep(t, v.get).of(webProbe)
		expect(t, c, "", "")
		synctest.Wait()
		v.set(map[string][]byte{"Authorization": []byte("Bearer two")}, nil)
		for range 100 {
			if why := c.Refused(http.StatusForbidden).Why; why != "it answers 403 to the headers of Secret im/web-probe" {
				t.Fatalf("it says %q", why)
			}
		}
		time.Sleep(secretRetry)
		synctest.Wait()
		expect(t, c, "Bearer two", "")
		if v.reads() != 2 {
			t.Errorf("read %d times, want 2", v.reads())
		}
	})
}

func TestWhatASecretMustHold(t *testing.T) {
	many := map[string][]byte{}
	for _, r := range "abcdefghijklmnopq" {
		many[string(r)] = nil
	}
	for want, data := range map[string]map[string][]byte{
		"it is empty":                        {},
		"it has 17 keys":                     many,
		`key "Content-Length" must be`:       {"Content-Length": []byte("1")},
		`key "a b" must be`:                  {"a b": []byte("1")},
		`key "A" must hold printable ASCII`:  {"A": []byte("1\nB: 2")},
		`key "A": the header has 4097 bytes`: {"A": []byte(strings.Repeat("a", 4097))},
	} {
		h, err := headersOf(data)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v; want an error with %q", h, err, want)
		}
	}
	h, err := headersOf(map[string][]byte{"x-token": []byte("a b\r\n"), "Cookie": []byte("c=d")})
	if err != nil || h.Get("X-Token") != "a b" || h.Get("Cookie") != "c=d" || len(h) != 2 {
		t.Errorf("%v, %v", h, err)
	}
}

func TestASecretIsForWhomTheCertificateIs(t *testing.T) {
	from := &v1alpha1.HTTPHeadersFrom{SecretRef: v1alpha1.HTTPSecretRef{Name: "web-probe"}}
	for _, spec := range []*v1alpha1.ProbeTLS{nil, {}} {
		if _, err := ask(t, v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{HeadersFrom: from, TLS: spec}}); err == nil || !strings.Contains(err.Error(), "tls.serverName") {
			t.Errorf("TLS %+v: %v", spec, err)
		}
	}
	w, err := ask(t, v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{HeadersFrom: from, TLS: &v1alpha1.ProbeTLS{ServerName: "web.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	if c := w.(*probe.HTTP).Credentials.(*credentials); c.name != webProbe {
		t.Errorf("it is asked with the headers of %s", c.name)
	}
}
