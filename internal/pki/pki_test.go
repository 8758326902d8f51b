package pki

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf  = Leaf{Name: "server", Names: []string{"rollcall.im.svc", "*.rollcall-server.im.svc", "127.0.0.1", "::1"}}
)

func newAuthority(t *testing.T, now time.Time) *Authority {
	t.Helper()
	a, err := NewAuthority("rollcall", now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func signed(t *testing.T, a *Authority, p Pair, l Leaf, now time.Time) Pair {
	t.Helper()
	p, err := a.Leaf(p, l, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// trusted tells whether a leaf is good for a name where an authority is trusted.
func trusted(t *testing.T, a *Authority, p Pair, name string, now time.Time) bool {
	t.Helper()
	cert, _, err := p.parse()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Cert)
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}

func TestALeafIsGoodForItsNames(t *testing.T) {
	a := newAuthority(t, start)
	p := signed(t, a, Pair{}, leaf, start)
	for name, want := range map[string]bool{
		"rollcall.im.svc": true, "server-0.rollcall-server.im.svc": true, "127.0.0.1": true, "::1": true,
		"rollcall.hr.svc": false, "rollcall-server.im.svc": false,
	} {
		if got := trusted(t, a, p, name, start); got != want {
			t.Errorf("good for %s: %v", name, got)
		}
	}
	if trusted(t, newAuthority(t, start), p, "rollcall.im.svc", start) {
		t.Error("another authority of the same name vouches for it")
	}
	if trusted(t, a, p, "rollcall.im.svc", start.Add(LeafLife+time.Second)) {
		t.Error("it is good after its end")
	}
}

func TestALeafIsRenewedOnlyWhenItMust(t *testing.T) {
	a := newAuthority(t, start.Add(-48*time.Hour)) // older than any clock here
	other := newAuthority(t, start.Add(-48*time.Hour))
	old := signed(t, a, Pair{}, leaf, start)
	for _, c := range []struct {
		name  string
		a     *Authority
		p     Pair
		leaf  Leaf
		after time.Duration
		anew  bool
	}{
		{"young", a, old, leaf, 24 * time.Hour, false},
		{"with more than a third left", a, old, leaf, LeafLife/3*2 - time.Hour, false},
		{"with less than a third left", a, old, leaf, LeafLife/3*2 + time.Hour, true},
		{"ended", a, old, leaf, LeafLife + time.Hour, true},
		{"of a clock that was ahead", a, old, leaf, -24 * time.Hour, true},
		{"with another name asked for", a, old, Leaf{Name: "server", Names: append([]string{"mqtt.example.com"}, leaf.Names...)}, 0, true},
		{"with another address asked for", a, old, Leaf{Name: "server", Names: append(leaf.Names[:3:3], "10.0.0.1")}, 0, true},
		{"signed by another authority", other, old, leaf, 0, true},
		{"without its key", a, Pair{Cert: old.Cert}, leaf, 0, true},
		{"unreadable", a, Pair{Cert: []byte("x"), Key: []byte("y")}, leaf, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := start.Add(c.after)
			p := signed(t, c.a, c.p, c.leaf, now)
			if anew := !bytes.Equal(p.Cert, c.p.Cert); anew != c.anew {
				t.Errorf("made anew: %v", anew)
			}
			if !trusted(t, c.a, p, "rollcall.im.svc", now) {
				t.Error("the result is not good")
			}
		})
	}
}

func TestARenewedAuthorityDisturbsNobody(t *testing.T) {
	old := newAuthority(t, start)
	if same, err := old.Renewed(start.Add(AuthorityLife / 2)); err != nil || same != old {
		t.Errorf("a young one is renewed: %v", err)
	}
	now := start.Add(AuthorityLife - 365*24*time.Hour)
	before := signed(t, old, Pair{}, leaf, now)
	fresh, err := old.Renewed(now)
	if err != nil || fresh == old {
		t.Fatalf("it is not renewed: %v", err)
	}
	if after := signed(t, fresh, before, leaf, now); !bytes.Equal(after.Cert, before.Cert) {
		t.Error("what the old one signed is made anew")
	}
	after := signed(t, fresh, Pair{}, leaf, now)
	if !trusted(t, fresh, before, "rollcall.im.svc", now) {
		t.Error("what the old one signed is not trusted where the new one is")
	}
	if !trusted(t, old, after, "rollcall.im.svc", now) {
		t.Error("what the new one signs is not trusted where the old one is")
	}
}

func TestAnAuthorityIsReadBack(t *testing.T) {
	a := newAuthority(t, start)
	again, err := ParseAuthority(a.Pair)
	if err != nil {
		t.Fatal(err)
	}
	if p := signed(t, again, Pair{}, leaf, start); !trusted(t, a, p, "rollcall.im.svc", start) {
		t.Error("what it signs is not its own")
	}
	if _, err := ParseAuthority(signed(t, a, Pair{}, leaf, start)); err == nil {
		t.Error("a leaf is taken for an authority")
	}
}
