package probe

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/agent/agenttest"
	"github.com/rollcall-dev/rollcall/internal/certificate"
	"github.com/rollcall-dev/rollcall/internal/certificate/certificatetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// secured makes a server speak TLS, and returns how to speak it with it.
func secured(t *testing.T, s *agenttest.Server) func() *tls.Config {
	t.Helper()
	dir := t.TempDir()
	cert, key, ca := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")
	a := certificatetest.New(t, "test")
	a.Issue("rollcall", cert, key)
	a.Write(ca)
	files, err := certificate.New(certificate.Config{Cert: cert, Key: key, CA: ca, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.Secure(files.Server(false))
	return func() *tls.Config { return files.Client("rollcall") }
}

func TestProbeOverTLSOfAServerThatHangs(t *testing.T) {
	for name, rotation := range map[string]time.Duration{
		"is hung": time.Hour,
		"is hung while sessions are re-made all the time": Interval,
	} {
		t.Run(name, func(t *testing.T) {
			s := agenttest.NewServer(t, "ns/server-0")
			speak := secured(t, s)
			w := start(t, s.Address, func(c *Config) { c.Rotation, c.TLS = rotation, speak })
			w.band(wire.BandOK)
			fault := time.Now()
			s.Hang()
			notBefore(t, w.band(wire.BandHung), fault, HungAfter)
			s.Resume()
			w.band(wire.BandOK)
			w.went("ok hung ok")
		})
	}
}

func TestProbeOverTLSThatBeginsOnAServerThatHangs(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	speak := secured(t, s)
	s.Hang()
	fault := time.Now()
	w := start(t, s.Address, func(c *Config) { c.TLS = speak })
	notBefore(t, w.band(wire.BandHung), fault, HungAfter)
	s.Resume()
	w.band(wire.BandOK)
}

func TestProbeOverTLSOfAServerThatDies(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	speak := secured(t, s)
	w := start(t, s.Address, func(c *Config) { c.TLS = speak })
	w.band(wire.BandOK)
	s.Kill()
	w.band(wire.BandRefused)
	s.Revive()
	w.band(wire.BandOK)
}

// A path that loses packets must not look like a hung server: what was
// acknowledged is held against what was written below TLS.
func TestWhatIsWrittenBelowTLSBelongsToTheNewestQuestion(t *testing.T) {
	now := time.Unix(1000, 0)
	e := NewEvidence(now)
	e.Dialed(1, now, now, DialConnected, Kernel{})
	e.Asked(1, Connect, 0, 0, now)
	e.Written(1, 500)
	e.Written(1, 900)
	e.Asked(1, Ping, 0, 0, now)
	e.Written(1, 930)
	l := e.link(1)
	if l.pending[0].end != 900 || l.pending[1].end != 930 {
		t.Errorf("questions end at %d and %d, want 900 and 930", l.pending[0].end, l.pending[1].end)
	}
	e.Written(1, 100)
	if l.written != 930 {
		t.Errorf("%d bytes are written, want 930", l.written)
	}
}
