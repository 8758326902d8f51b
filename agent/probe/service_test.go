package probe

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// startService runs a prober of a service until the test ends.
func startService(t *testing.T, address string, way Way, observers int) *watch {
	t.Helper()
	w := &watch{t: t, news: make(chan struct{}, 1)}
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewService(ServiceConfig{
		Server: "ns/web-0", Address: address, Limits: limits, Way: way, Every: ServiceEvery(observers),
		Observe: w.observe, Stall: &stall.Watch{}, Logger: slog.New(slog.DiscardHandler), Metrics: metrics,
	})
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

// web is an HTTP server that can be told to hang and to answer otherwise.
type web struct {
	*httptest.Server
	code              atomic.Int32
	mu                sync.Mutex
	hanging           chan struct{} // nil: it answers
	requests, opened  atomic.Int32
	lastHost, lastUse string
}

func newWeb(t *testing.T, start func(*httptest.Server)) *web {
	t.Helper()
	w := &web{}
	w.code.Store(http.StatusOK)
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		w.mu.Lock()
		hanging := w.hanging
		w.lastHost, w.lastUse = r.Host, r.Header.Get("X-Use")
		w.mu.Unlock()
		if hanging != nil {
			<-hanging
		}
		rw.WriteHeader(int(w.code.Load()))
		fmt.Fprintln(rw, "well?")
	}))
	w.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			w.opened.Add(1)
		}
	}
	start(w.Server)
	t.Cleanup(func() {
		w.resume()
		w.CloseClientConnections()
		w.Close()
	})
	return w
}

func (w *web) hang() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hanging = make(chan struct{})
}

func (w *web) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hanging != nil {
		close(w.hanging)
		w.hanging = nil
	}
}

func (w *web) address() string { return w.Listener.Addr().String() }

func (w *web) way(t *testing.T) *HTTP {
	t.Helper()
	codes, err := ParseCodes([]string{"200-399"})
	if err != nil {
		t.Fatal(err)
	}
	return &HTTP{
		Address: w.address(), Host: "web.example", Path: "/healthz?deep=1",
		Headers: http.Header{"X-Use": {"probe"}}, Codes: codes,
	}
}

func TestHTTPServiceThatHangs(t *testing.T) {
	s := newWeb(t, (*httptest.Server).Start)
	w := startService(t, s.address(), s.way(t), 3)
	w.band(wire.BandOK)
	fault := time.Now()
	s.hang()
	notBefore(t, w.band(wire.BandHung), fault, HungAfter)
	s.resume()
	w.band(wire.BandOK)
	if s.lastHost != "web.example" || s.lastUse != "probe" {
		t.Errorf("asked with Host %q and X-Use %q", s.lastHost, s.lastUse)
	}
}

func TestHTTPSServiceThatHangs(t *testing.T) {
	s := newWeb(t, (*httptest.Server).StartTLS)
	way := s.way(t)
	way.TLS = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	way.TLS.ServerName = "example.com" // as httptest's certificate has it
	w := startService(t, s.address(), way, 3)
	w.band(wire.BandOK)
	fault := time.Now()
	s.hang()
	notBefore(t, w.band(wire.BandHung), fault, HungAfter)
	s.resume()
	w.band(wire.BandOK)
}

func TestAServiceOfAnUntrustedCertificateIsNeverWell(t *testing.T) {
	s := newWeb(t, (*httptest.Server).StartTLS)
	way := s.way(t)
	trusting := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trusting.RootCAs, trusting.ServerName = nil, "web.example"
	way.TLS = trusting
	o := startService(t, s.address(), way, 3).band(wire.BandSlow)
	if !strings.Contains(o.Detail, "certificate") {
		t.Errorf("detail %q does not speak of the certificate", o.Detail)
	}
}

func TestAServiceThatAnswersWithAnotherCodeIsSlow(t *testing.T) {
	s := newWeb(t, (*httptest.Server).Start)
	w := startService(t, s.address(), s.way(t), 3)
	w.band(wire.BandOK)
	s.code.Store(http.StatusServiceUnavailable)
	o := w.band(wire.BandSlow)
	if want := "it answers 503, expected was 200 to 399"; !strings.Contains(o.Detail, want) {
		t.Errorf("detail %q, want %q in it", o.Detail, want)
	}
	s.code.Store(http.StatusNoContent)
	w.band(wire.BandOK)
}

// drawer is where credentials are kept; the zero value is still being read.
type drawer struct {
	headers atomic.Pointer[http.Header]
	none    atomic.Pointer[Unaskable]
	refused atomic.Int32
}

func (d *drawer) Headers() (http.Header, *Unaskable) {
	if h := d.headers.Load(); h != nil {
		return *h, nil
	}
	return nil, d.none.Load()
}

func (d *drawer) Refused(code int) *Unaskable {
	d.refused.Add(1)
	return &Unaskable{fmt.Sprintf("it answers %d to that", code)}
}

func TestAServiceIsNotAccusedForWantOfCredentials(t *testing.T) {
	s := newWeb(t, (*httptest.Server).Start)
	way, d := s.way(t), &drawer{}
	way.Credentials = d
	d.none.Store(&Unaskable{"there is none"})
	w := startService(t, s.address(), way, 3)
	if o := w.band(wire.BandUnasked); o.Detail != "there is none" || o.Answered {
		t.Errorf("without them: %+v", o)
	}
	if n := s.requests.Load(); n != 0 {
		t.Errorf("%d requests came without them", n)
	}

	d.headers.Store(&http.Header{"X-Use": {"secret"}})
	w.band(wire.BandOK)
	s.mu.Lock()
	if s.lastUse != "secret" {
		t.Errorf("X-Use is %q, want that of the credentials", s.lastUse)
	}
	s.mu.Unlock()

	s.code.Store(http.StatusForbidden)
	if o := w.band(wire.BandUnasked); o.Detail != "it answers 403 to that" || !o.Answered || d.refused.Load() == 0 {
		t.Errorf("where they are refused: %+v", o)
	}
	s.code.Store(http.StatusOK)
	w.band(wire.BandOK)
	fault := time.Now()
	s.hang()
	notBefore(t, w.band(wire.BandHung), fault, HungAfter)
}

// What can't be asked can still be gone.
func TestAServiceThatIsNotAskedAndIsGoneIsRefused(t *testing.T) {
	s := newWeb(t, (*httptest.Server).Start)
	way, d := s.way(t), &drawer{}
	way.Credentials = d
	d.none.Store(&Unaskable{"there is none"})
	w := startService(t, s.address(), way, 3)
	w.band(wire.BandUnasked)
	s.Listener.Close()
	w.band(wire.BandRefused)
}

func TestAServiceThatIsGoneIsRefused(t *testing.T) {
	s := newWeb(t, (*httptest.Server).Start)
	w := startService(t, s.address(), s.way(t), 3)
	w.band(wire.BandOK)
	s.Listener.Close()
	s.CloseClientConnections()
	w.band(wire.BandRefused)
}

// The kernel takes connections until its queue is full, and then takes none,
// while those that exist are served on.
func TestAServiceThatTakesNoNewConnections(t *testing.T) {
	l := listen(t, 0)
	t.Cleanup(func() { l.Close() })
	go func() { // the first connection is served for ever, no other is accepted
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for range 2 { // the first fills the queue
			if filler, err := net.DialTimeout("tcp", l.Addr().String(), 100*time.Millisecond); err == nil {
				defer filler.Close()
			}
		}
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			fmt.Fprintln(c, "+PONG")
		}
	}()
	w := startService(t, l.Addr().String(), &TCP{Send: []byte("PING\n"), Expect: []byte("+PONG\n")}, 1)
	if o := w.band(wire.BandHung); !strings.Contains(o.Detail, "new connections are not taken") {
		t.Errorf("detail %q", o.Detail)
	}
}

func TestTCPServiceOneQuestionForEachConnection(t *testing.T) {
	l := listen(t, 128)
	var hanging atomic.Bool
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if hanging.Load() {
				go func() { _, _ = bufio.NewReader(c).ReadString(0); c.Close() }() // until the other side ends it
				continue
			}
			if line, _ := bufio.NewReader(c).ReadString('\n'); line == "are you there?\n" {
				fmt.Fprint(c, "yes")
			}
			c.Close()
		}
	}()
	w := startService(t, l.Addr().String(), &TCP{Send: []byte("are you there?\n"), Expect: []byte("yes"), Single: true}, 3)
	t.Cleanup(func() { l.Close() })
	w.band(wire.BandOK)
	hanging.Store(true)
	w.band(wire.BandHung)
	hanging.Store(false)
	w.band(wire.BandOK)
}

func TestGRPCService(t *testing.T) {
	l := listen(t, 128)
	s, h := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	h.SetServingStatus("chat", healthpb.HealthCheckResponse_SERVING)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	w := startService(t, l.Addr().String(), &GRPC{Address: l.Addr().String(), Service: "chat"}, 3)
	w.band(wire.BandOK)
	h.SetServingStatus("chat", healthpb.HealthCheckResponse_NOT_SERVING)
	if o := w.band(wire.BandSlow); !strings.Contains(o.Detail, "NOT_SERVING") {
		t.Errorf("detail %q", o.Detail)
	}
	h.SetServingStatus("chat", healthpb.HealthCheckResponse_SERVING)
	w.band(wire.BandOK)

	other := startService(t, l.Addr().String(), &GRPC{Address: l.Addr().String(), Service: "voice"}, 3)
	if o := other.band(wire.BandSlow); !strings.Contains(o.Detail, `doesn't know service "voice"`) {
		t.Errorf("detail %q", o.Detail)
	}
}

// However many observers a server has, and whether it answers or hangs, they
// ask it six times a second at most, on six new connections at most.
func TestServicesAreAskedSixTimesASecondAtMost(t *testing.T) {
	for _, observers := range []int{1, 3, 9} {
		for _, hangs := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d observers, hangs: %v", observers, hangs), func(t *testing.T) {
				t.Parallel()
				s := newWeb(t, (*httptest.Server).Start)
				if hangs {
					s.hang()
				}
				began := time.Now()
				var all []*watch
				for range observers {
					all = append(all, startService(t, s.address(), s.way(t), observers))
				}
				const seconds = 6
				for _, w := range all {
					w.until("some seconds of questions", func(wire.Observation) bool { return time.Since(began) > seconds*time.Second })
				}
				requests, opened := s.requests.Load(), s.opened.Load()
				took := time.Since(began).Seconds()
				most := int32(took*ServiceRate) + int32(2*observers) // the first of each are asked at once
				t.Logf("%d requests on %d connections in %.1f s", requests, opened, took)
				if requests > most || opened > most || requests == 0 {
					t.Errorf("%d requests on %d connections in %.1f s, want at most %d", requests, opened, took, most)
				}
			})
		}
	}
}
