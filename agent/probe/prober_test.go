package probe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/agent/agenttest"
	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// serveEnv makes this test binary a server that answers on an address that it
// prints, to be stopped by a signal.
const serveEnv = "ROLLCALL_TEST_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serveEnv) != "" {
		m.Run() // TestServe
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is what a test waits for what should take a second or two, on a
// machine that is busy with something else.
const patience = time.Minute

// watch is a prober under test, and what it said.
type watch struct {
	t    *testing.T
	news chan struct{}

	mu   sync.Mutex
	last wire.Observation
	all  []string
}

func start(t *testing.T, address string, change func(*Config)) *watch {
	t.Helper()
	w := &watch{t: t, news: make(chan struct{}, 1)}
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Server: "ns/server-0", Address: address, Limits: limits,
		ClientID: func(n int) string { return fmt.Sprintf("probe:node-1:%d", n%10) },
		User:     "rollcall-system/nodes",
		Token:    func(context.Context) (string, error) { return "secret", nil },
		Observe:  w.observe,
		Stall:    &stall.Watch{}, Logger: slog.New(slog.DiscardHandler), Metrics: metrics,
	}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *watch) observe(o wire.Observation) {
	w.mu.Lock()
	if n := len(w.all); n == 0 || w.all[n-1] != string(o.Band) {
		w.all = append(w.all, string(o.Band))
	}
	w.last = o
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// until waits for an observation that is as wanted.
func (w *watch) until(what string, want func(wire.Observation) bool) wire.Observation {
	w.t.Helper()
	timeout := time.After(patience)
	for {
		w.mu.Lock()
		last, all := w.last, w.all
		w.mu.Unlock()
		if last.Band != "" && want(last) {
			return last
		}
		select {
		case <-w.news:
		case <-timeout:
			w.t.Fatalf("waiting for %s: the last observation is %+v, the bands were %v", what, last, all)
		}
	}
}

func (w *watch) band(b wire.Band) wire.Observation {
	w.t.Helper()
	return w.until(string(b), func(o wire.Observation) bool { return o.Band == b })
}

// notBefore checks that a band was not entered too early. The question that it
// is about may have been under way when the fault began: half of the time is
// demanded. How late it was is for the log, since the machine may be busy;
// TestBands has the exact figures.
func notBefore(t *testing.T, o wire.Observation, fault time.Time, least time.Duration) {
	t.Helper()
	took := o.Since.Sub(fault)
	t.Logf("%s after %.2fs: %s", o.Band, took.Seconds(), o.Detail)
	if took < least/2 {
		t.Errorf("%s after %v already, want about %v", o.Band, took, least)
	}
}

// went checks which bands came, one after the other, but for slow and lossy: a
// machine that is busy enough is slow in truth, and its kernel late enough to send
// again what had arrived. Neither accuses anybody wrongly.
func (w *watch) went(want string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("the bands were %s", strings.Join(w.all, " "))
	got := slices.DeleteFunc(slices.Clone(w.all), func(b string) bool {
		return b == string(wire.BandSlow) || b == string(wire.BandLossy)
	})
	if got := strings.Join(slices.Compact(got), " "); got != want {
		w.t.Errorf("without slow and lossy the bands were %s, want %s", got, want)
	}
}

func TestProbeOfAServerThatAnswers(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	s.Queue(3 * ms)
	w := start(t, s.Address, nil)
	o := w.until("vitals", func(o wire.Observation) bool { return o.Band == wire.BandOK && o.QueueDelay > 0 })
	if o.QueueDelay != 3000 || o.Incarnation != "ns/server-0.1" || o.Address != s.Address {
		t.Errorf("observation %+v", o)
	}
	c := s.Connects()[0]
	if c.ClientID != "probe:node-1:1" || c.UserName != "rollcall-system/nodes" || string(c.Password) != "secret" ||
		len(c.User) != 1 || c.User[0] != (mqtt.User{Name: wire.PropProbe, Value: "1"}) {
		t.Errorf("CONNECT %+v", c)
	}
}

func TestProbeOfAServerThatHangs(t *testing.T) {
	for name, rotation := range map[string]time.Duration{
		"is hung": time.Hour,
		"is hung while sessions are re-made all the time": Interval,
	} {
		t.Run(name, func(t *testing.T) {
			s := agenttest.NewServer(t, "ns/server-0")
			w := start(t, s.Address, func(c *Config) { c.Rotation = rotation })
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

func TestProbeThatBeginsOnAServerThatHangs(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	s.Hang()
	fault := time.Now()
	w := start(t, s.Address, nil)
	notBefore(t, w.band(wire.BandHung), fault, HungAfter)
}

func TestProbeOfAServerThatIsSlow(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	w := start(t, s.Address, nil)
	w.band(wire.BandOK)
	fault := time.Now()
	s.Slow(800 * ms)
	o := w.band(wire.BandSlow)
	notBefore(t, o, fault, limits.Window)
	w.until("its answer time", func(o wire.Observation) bool { return o.Answer >= 800_000 && o.Answer < 8_000_000 })
	s.Slow(0)
	w.band(wire.BandOK)
	w.went("ok")
}

func TestProbeOfAServerThatDies(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	w := start(t, s.Address, nil)
	w.band(wire.BandOK)
	s.Kill()
	w.band(wire.BandRefused)
	s.Revive()
	w.band(wire.BandOK)
	w.went("ok refused ok")
}

func TestProbeThatIsResetIsMadeAgain(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	w := start(t, s.Address, nil)
	w.band(wire.BandOK)
	s.Reset()
	w.until("another session", func(wire.Observation) bool { return len(s.Connects()) > 1 && len(s.Clients()) == 1 })
	w.went("ok")
}

func TestProbeThatIsNotAdmittedHasItsAnswerAllTheSame(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	s.Refuse(mqtt.NotAuthorized)
	w := start(t, s.Address, nil)
	w.band(wire.BandOK)
	w.until("another attempt", func(wire.Observation) bool { return len(s.Connects()) > 1 })
	fault := time.Now()
	s.Hang()
	notBefore(t, w.band(wire.BandHung), fault, HungAfter)
}

func TestProbeSessionsAreMadeInRotation(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	w := start(t, s.Address, func(c *Config) { c.Rotation = Interval })
	w.until("five sessions", func(wire.Observation) bool { return len(s.Connects()) >= 5 })
	last := ""
	for i, c := range s.Connects() {
		if c.ClientID == last || !strings.HasPrefix(c.ClientID, "probe:node-1:") {
			t.Errorf("session %d has the id %s, and the one before %s", i, c.ClientID, last)
		}
		last = c.ClientID
	}
	w.until("at most two sessions at once", func(wire.Observation) bool { return len(s.Clients()) <= 2 })
	w.went("ok")
}

// Two small segments in flight are taken for a loss by the kernel before the
// other one acknowledges them.
func TestAQuestionDoesNotFollowOneThatHasJustBeenAsked(t *testing.T) {
	for name, c := range map[string]struct {
		answered bool
		apart    time.Duration
		want     int
	}{
		"one in flight is not followed at once":    {false, 5 * ms, 0},
		"one that is answered is followed at once": {true, 5 * ms, 1},
		"one that hangs is followed":               {false, Interval, 1},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			defer here.Close()
			go io.Copy(io.Discard, there)
			metrics, err := NewMetrics(prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(Config{Server: "ns/server-0", Address: "127.0.0.1:1", Limits: limits, Metrics: metrics})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			p.evidence = NewEvidence(now)
			p.evidence.Dialed(1, now, now, DialConnected, Kernel{})
			p.current = &session{id: 1, conn: here, raw: here, connected: true}
			p.rotateAt = now.Add(time.Hour)
			p.ask(p.current, now)
			if c.answered {
				p.evidence.Answered(1, Ping, 0, limits.AnswerTime, now)
			}
			before := p.current.ticks
			p.tickAt = now.Add(c.apart)
			if !p.tick(t.Context(), p.tickAt) {
				t.Error("it was not time to ask")
			}
			if asked := p.current.ticks - before; asked != c.want {
				t.Errorf("%d questions, want %d", asked, c.want)
			}
		})
	}
}

// A listener whose queue is full drops what comes, as a machine does that is gone.
func TestProbeOfAMachineThatIsSilent(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for failed := 0; failed < 2; { // until the queue is full, and not only the machine slow
		c, err := net.DialTimeout("tcp", address, 500*ms)
		if err != nil {
			failed++
			continue
		}
		failed = 0
		defer c.Close()
	}
	begun := time.Now()
	w := start(t, address, nil)
	notBefore(t, w.band(wire.BandUnreachable), begun, HungAfter)
}

// TestServe is not a test but a server in a process of its own.
func TestServe(t *testing.T) {
	if os.Getenv(serveEnv) == "" {
		t.Skip("only for TestProbeOfAProcessThatIsStopped")
	}
	s := agenttest.NewServer(t, "ns/server-0")
	fmt.Println("listening", s.Address)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test closes it
}

func TestProbeOfAProcessThatIsStopped(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestServe$", "-test.v")
	cmd.Env = append(os.Environ(), serveEnv+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var address, word string
	for word != "listening" {
		if _, err := fmt.Fscan(stdout, &word); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fmt.Fscan(stdout, &address); err != nil {
		t.Fatal(err)
	}
	w := start(t, address, nil)
	w.band(wire.BandOK)
	fault := time.Now()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	notBefore(t, w.band(wire.BandHung), fault, HungAfter)
	late := start(t, address, nil) // one that has never seen it answer
	late.band(wire.BandHung)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.band(wire.BandOK)
	late.band(wire.BandOK)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.band(wire.BandRefused)
}
