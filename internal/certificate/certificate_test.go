package certificate

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/certificate/certificatetest"
)

// end is one side of a connection, its files and its clock.
type end struct {
	*Files
	cert, key, ca string
	now           time.Time
}

func newEnd(t *testing.T, own, other *certificatetest.Authority, name string) *end {
	t.Helper()
	dir := t.TempDir()
	e := &end{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), ca: filepath.Join(dir, "ca.crt"), now: time.Now()}
	own.Issue(name, e.cert, e.key)
	other.Write(e.ca)
	f, err := New(Config{Cert: e.cert, Key: e.key, CA: e.ca, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return e.now }})
	if err != nil {
		t.Fatal(err)
	}
	e.Files = f
	return e
}

// meet makes the two ends speak, and returns whom the server sees.
func meet(t *testing.T, server, client *end, name string) (sees string, err error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server.Server(true))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type met struct {
		name string
		err  error
	}
	done := make(chan met, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- met{err: err}
			return
		}
		defer c.Close()
		secure := c.(*tls.Conn)
		if err := secure.Handshake(); err != nil {
			done <- met{err: err}
			return
		}
		_, err = c.Write([]byte("hello"))
		done <- met{secure.ConnectionState().PeerCertificates[0].Subject.CommonName, err}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	secure, err := Handshake(t.Context(), conn, l.Addr().String(), client.Client(name))
	if err == nil {
		_, err = secure.Read(make([]byte, 8)) // a server refuses after the client's own handshake
		secure.Close()
	}
	m := <-done
	return m.name, errors.Join(err, m.err)
}

func TestRenewedCertificatesAreUsedWithoutARestart(t *testing.T) {
	servers, clients := certificatetest.New(t, "servers"), certificatetest.New(t, "clients")
	s, c := newEnd(t, servers, clients, "rollcall"), newEnd(t, clients, servers, "first")
	check := func(when, want string) {
		t.Helper()
		if got, err := meet(t, s, c, ""); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", when, got, err, want)
		}
	}
	check("at first", "first")
	clients.Issue("second", c.cert, c.key)
	check("before it is looked at again", "first")
	c.now = c.now.Add(checkEvery)
	check("after the client's was renewed", "second")

	if err := os.WriteFile(c.key, []byte("half of a ke"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(checkEvery)
	check("in the middle of a rotation", "second")
	clients.Issue("third", c.cert, c.key)
	c.now = c.now.Add(checkEvery)
	check("after it", "third")

	other := certificatetest.New(t, "others")
	other.Issue("rollcall", s.cert, s.key)
	s.now = s.now.Add(checkEvery)
	if _, err := meet(t, s, c, ""); err == nil {
		t.Error("a server of an authority that the client doesn't know is let pass")
	}
	other.Write(c.ca)
	c.now = c.now.Add(checkEvery)
	check("after the servers' authority was replaced", "third")
	other.Write(s.ca)
	s.now = s.now.Add(checkEvery)
	if _, err := meet(t, s, c, ""); err == nil {
		t.Error("a client of an authority that is no more is let pass")
	}
}

func TestTheServerMustBeTheOneThatIsMeant(t *testing.T) {
	a := certificatetest.New(t, "everybody")
	s, c := newEnd(t, a, a, "rollcall"), newEnd(t, a, a, "client")
	if _, err := meet(t, s, c, "rollcall"); err != nil {
		t.Errorf("by its name: %v", err)
	}
	if _, err := meet(t, s, c, "another"); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("by another name: %v", err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"half of a pair":        {Cert: junk},
		"no such file":          {CA: filepath.Join(dir, "none")},
		"no certificate":        {CA: junk},
		"a pair of no such key": {Cert: junk, Key: junk},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
