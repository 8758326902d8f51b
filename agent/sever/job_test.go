package sever

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/sockets"
)

// scene is a severer, with a cluster and a kernel that the test plays.
type scene struct {
	t       *testing.T
	severer *Severer
	stop    func()
	fo      *v1alpha1.Failover

	slow    time.Duration // what it takes to look at the cluster
	address netip.Addr    // of the pod

	mu       sync.Mutex
	refuses  error
	destroys error
	clients  []sockets.Socket
	ended    []time.Time
	said     []saying
	severed  v1alpha1.Severed
	told     int // by an Event
	entered  []netip.Addr
	opened   int
	closed   int
}

func (s *scene) target(context.Context, types.NamespacedName, *v1alpha1.SeverOrder) (target, error) {
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	return target{
		addresses: []netip.Addr{s.address}, port: 1883,
		spared: map[netip.Addr]bool{netip.MustParseAddr("10.0.0.99"): true},
	}, s.refuses
}

func (s *scene) report(_ context.Context, _ *v1alpha1.Failover, severed v1alpha1.Severed, c saying) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.severed = severed
	if len(s.said) == 0 || s.said[len(s.said)-1] != c {
		s.said = append(s.said, c)
	}
	return nil
}

type playedCluster struct{ *scene }

func (p playedCluster) ended(_ *v1alpha1.Failover, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = n
}

type playedNamespace struct{ *scene }

func (p playedNamespace) List(_ context.Context, q sockets.Query, each func(sockets.Socket) error) error {
	p.mu.Lock()
	all := append([]sockets.Socket(nil), p.clients...)
	p.mu.Unlock()
	if q.Port != 1883 {
		p.t.Errorf("port %d is looked at", q.Port)
	}
	for _, s := range all {
		if err := each(s); err != nil {
			return err
		}
	}
	return nil
}

func (p playedNamespace) Destroy(_ context.Context, s sockets.Socket) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.destroys != nil {
		return p.destroys
	}
	for i, c := range p.clients {
		if c.Remote == s.Remote && c.Local == s.Local {
			p.clients = append(p.clients[:i], p.clients[i+1:]...)
			p.ended = append(p.ended, time.Now())
			return nil
		}
	}
	return sockets.ErrGone
}

func (p playedNamespace) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed++
	return nil
}

// newScene has so many clients connected to server-2.
func newScene(t *testing.T, clients int) *scene {
	t.Helper()
	s := &scene{t: t, address: netip.MustParseAddr("10.0.0.1"), fo: &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: "im", Name: "fo", UID: "fo-1"},
		Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2"},
	}}
	s.process(metav1.ConditionTrue)
	for i := range clients {
		s.connect("10.0.0.1:1883", fmt.Sprintf("10.1.%d.%d:40000", i/250, i%250))
	}
	s.begins()
	return s
}

// begins starts a severer.
func (s *scene) begins() {
	s.t.Helper()
	var err error
	s.severer, err = newSeverer(Config{Node: "here", Namespace: "rollcall", Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()},
		playedCluster{s}, func(_ context.Context, addresses []netip.Addr) (namespace, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.opened++
			s.entered = addresses
			return playedNamespace{s}, nil
		})
	if err != nil {
		s.t.Fatal(err)
	}
	s.stop = s.severer.begin(s.t.Context())
	s.t.Cleanup(s.stop)
}

func (s *scene) connect(local, remote string) {
	s.clients = append(s.clients, sockets.Socket{
		State: sockets.Established, Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote),
	})
}

func (s *scene) process(status metav1.ConditionStatus) {
	meta.SetStatusCondition(&s.fo.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionProcessing, Status: status, Reason: v1alpha1.ReasonMoving,
	})
}

// shows tells the severer of the Failover as it is now.
func (s *scene) shows() { s.severer.see(s.fo.DeepCopy()) }

// asks is the controller's order, renewed.
func (s *scene) asks(rate, firstWave int32) {
	s.fo.Status.Sever = &v1alpha1.SeverOrder{
		Installation: "rollcall", Node: "here", PodUID: "pod-1", Port: intstr.FromString("mqtt"),
		ClientsPerSecond: rate, FirstWave: firstWave, RenewedAt: metav1.NowMicro(),
	}
	s.shows()
}

// goes on asking for a while.
func (s *scene) goes(rate, firstWave int32, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		s.asks(rate, firstWave)
		time.Sleep(min(time.Second, time.Until(end)))
	}
	synctest.Wait()
}

func (s *scene) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ended)
}

func (s *scene) last() saying {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.said) == 0 {
		return saying{}
	}
	return s.said[len(s.said)-1]
}

func TestThePaceOfTheOrderIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 500)
		s.shows()
		began := time.Now()
		s.goes(100, 25, 3*time.Second)
		for i, at := range s.ended {
			if most := 25 + 100*at.Sub(began).Seconds(); float64(i+1) > most+1 {
				t.Fatalf("%d are ended after %v", i+1, at.Sub(began))
			}
		}
		if n := s.count(); n < 25+100*2 || n > 25+100*3 {
			t.Errorf("after 3 s %d are ended", n)
		}
		if first := s.ended[24].Sub(began); first > time.Second {
			t.Errorf("the first wave took %v", first)
		}
		s.goes(100, 25, 4*time.Second)
		if n := s.count(); n != 500 || s.last().reason != v1alpha1.ReasonNoneLeft {
			t.Errorf("at last %d are ended, and it says %+v", n, s.last())
		}
		s.mu.Lock()
		if s.severed.Connections != 500 || s.severed.Remaining != 0 || s.severed.Port != 1883 || s.severed.Node != "here" || s.severed.FirstAt == nil {
			t.Errorf("it reports %+v", s.severed)
		}
		s.mu.Unlock()
		s.process(metav1.ConditionFalse)
		s.shows()
		synctest.Wait()
		if s.told != 500 || s.last() != (saying{metav1.ConditionFalse, v1alpha1.ReasonSeveringEnded, s.last().message}) {
			t.Errorf("in the end it tells of %d, and says %+v", s.told, s.last())
		}
		if s.opened == 0 || s.opened != s.closed {
			t.Errorf("%d namespaces were entered, %d left", s.opened, s.closed)
		}
	})
}

func TestItStopsWhenItIsToldTo(t *testing.T) {
	for name, stop := range map[string]func(*scene){
		"the order is withdrawn":  func(s *scene) { s.fo.Status.Sever = nil; s.shows() },
		"the Failover has ended":  func(s *scene) { s.process(metav1.ConditionFalse); s.shows() },
		"the Failover is deleted": func(s *scene) { s.severer.gone(s.fo) },
		"it is another node's":    func(s *scene) { s.fo.Status.Sever.Node = "there"; s.shows() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, 500)
				s.shows()
				s.goes(50, 0, 2*time.Second)
				stop(s)
				synctest.Wait()
				n := s.count()
				time.Sleep(20 * time.Second)
				synctest.Wait()
				if n == 0 || n > 100 || s.count() != n {
					t.Errorf("%d were ended, and %d when all was over", n, s.count())
				}
				if s.last().reason != v1alpha1.ReasonSeveringEnded {
					t.Errorf("it says %+v", s.last())
				}
			})
		})
	}
}

func TestAPodWhoseSandboxIsMadeAnewIsEnteredAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 500)
		s.shows()
		s.goes(10, 0, 5*time.Second)
		if s.opened != 1 {
			t.Errorf("%d namespaces are entered of one pod", s.opened)
		}
		s.mu.Lock()
		s.address = netip.MustParseAddr("10.0.0.2")
		s.mu.Unlock()
		s.goes(10, 0, 5*time.Second)
		if s.opened != 2 || s.closed != 1 || s.entered[0] != s.address {
			t.Errorf("%d namespaces are entered, %d left, the last one of %v", s.opened, s.closed, s.entered)
		}
	})
}

func TestAnOrderThatIsWithdrawnDuringALookIsNotCarriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 500)
		s.slow = 4 * time.Second
		s.shows()
		s.asks(100, 25)
		time.Sleep(s.slow / 2)
		s.fo.Status.Sever = nil
		s.shows()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := s.count(); n != 0 {
			t.Errorf("%d are ended", n)
		}
	})
}

func TestASlowAPIServerDoesNotKeepAnyoneFromBeingSevered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 100)
		s.slow = 4 * time.Second
		s.shows()
		s.goes(100, 25, time.Minute)
		if n := s.count(); n != 100 {
			t.Errorf("%d of 100 are ended, and it says %+v", n, s.last())
		}
	})
}

func TestAControllerThatIsAwaySeversNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 5000)
		s.shows()
		s.asks(100, 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := s.count(); n < 300 || n > 100*int(v1alpha1.SeverOrderGood.Seconds())+20 {
			t.Errorf("an order that is not renewed ended %d", n)
		}
		n := s.count()
		s.goes(100, 0, 2*time.Second)
		if s.count() <= n {
			t.Error("one that is renewed again ends none")
		}
	})
}

func TestASevererThatBeginsAnewGivesNoSecondFirstWave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 500)
		s.fo.Status.Severed = &v1alpha1.Severed{Node: "here", Connections: 40}
		s.fo.Status.Sever = &v1alpha1.SeverOrder{
			Installation: "rollcall", Node: "here", PodUID: "pod-1", Port: intstr.FromInt32(1883),
			ClientsPerSecond: 10, FirstWave: 300, RenewedAt: metav1.NowMicro(),
		}
		s.shows()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := s.count(); n != 0 {
			t.Errorf("an order that nobody was seen to mean ended %d", n)
		}
		s.goes(10, 300, 2*time.Second)
		if n := s.count(); n == 0 || n > 25 {
			t.Errorf("%d are ended", n)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if int(s.severed.Connections) != 40+len(s.ended) {
			t.Errorf("it reports %+v", s.severed)
		}
	})
}

func TestASevererThatIsRestartedGoesOnWithWhatWasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 500)
		s.shows()
		s.goes(50, 0, 2*time.Second)
		s.stop()
		before := s.count()
		if s.last().reason != v1alpha1.ReasonSevering || s.told != 0 || before == 0 || int(s.severed.Connections) != before {
			t.Errorf("when it is stopped it has ended %d, says %+v of %+v, and tells of %d", before, s.last(), s.severed, s.told)
		}
		s.fo.Status.Severed = s.severed.DeepCopy()
		meta.SetStatusCondition(&s.fo.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionSevering, Status: s.last().status, Reason: s.last().reason})
		s.begins()
		s.shows()
		s.goes(50, 0, 2*time.Second)
		s.process(metav1.ConditionFalse)
		s.shows()
		synctest.Wait()
		if all := s.count(); s.last().reason != v1alpha1.ReasonSeveringEnded || all <= before || s.told != all {
			t.Errorf("in the end %d are ended, and %d before it began anew; it says %+v, and tells of %d", all, before, s.last(), s.told)
		}
	})
}

func TestAnOrderThatWasLeftBehindIsSaidToHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 5)
		s.fo.Status.Severed = &v1alpha1.Severed{Node: "here", Connections: 40}
		meta.SetStatusCondition(&s.fo.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionSevering, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSevering})
		s.process(metav1.ConditionFalse)
		s.shows()
		synctest.Wait()
		if s.last().reason != v1alpha1.ReasonSeveringEnded || s.severed.Connections != 40 || s.count() != 0 {
			t.Errorf("it says %+v of %+v", s.last(), s.severed)
		}
	})
}

func TestOnlyClientsOfThePortAreEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, 3)
		for _, c := range [][2]string{
			{"127.0.0.1:1883", "127.0.0.1:50000"}, {"[::1]:1883", "[::1]:50000"},
			{"10.0.0.1:1883", "10.0.0.1:50001"},  // the pod with itself
			{"10.0.0.1:1883", "10.0.0.99:50002"}, // an observer
			{"10.0.0.1:8080", "10.1.0.1:50003"},  // another port, of a kernel that filters nothing
		} {
			s.connect(c[0], c[1])
		}
		s.shows()
		s.goes(1000, 100, 3*time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.ended) != 3 || len(s.clients) != 5 || s.severed.Connections != 3 || s.severed.Remaining != 0 {
			t.Errorf("%d are ended, %+v are left, and it reports %+v", len(s.ended), s.clients, s.severed)
		}
		last := s.said[len(s.said)-1]
		if last.reason != v1alpha1.ReasonNoneLeft || !strings.Contains(last.message, "but for 1 from addresses of observers") {
			t.Errorf("it says %+v of the observer", last)
		}
	})
}

func TestWhatCannotBeDoneIsSaidAndTriedAgain(t *testing.T) {
	for reason, c := range map[string]struct{ refuses, destroys error }{
		v1alpha1.ReasonHostNetwork:    {refuses: refusal{v1alpha1.ReasonHostNetwork, "it shares its node's network"}},
		v1alpha1.ReasonNotDiverted:    {refuses: refusal{v1alpha1.ReasonNotDiverted, "a Service still leads there"}},
		v1alpha1.ReasonNoNamespace:    {refuses: fmt.Errorf("looking: %w", sockets.ErrNoNamespace)},
		v1alpha1.ReasonNotPermitted:   {destroys: fmt.Errorf("ending: %w", sockets.ErrNotPermitted)},
		v1alpha1.ReasonNotSupported:   {destroys: sockets.ErrUnsupported},
		v1alpha1.ReasonSeveringFailed: {destroys: errors.New("the kernel is in a bad mood")},
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, 10)
				s.refuses, s.destroys = c.refuses, c.destroys
				s.shows()
				s.goes(100, 5, 3*time.Second)
				if s.count() != 0 || s.last().reason != reason || s.last().status != metav1.ConditionFalse || s.last().message == "" {
					t.Errorf("%d are ended, and it says %+v", s.count(), s.last())
				}
				s.mu.Lock()
				s.refuses, s.destroys = nil, nil
				s.mu.Unlock()
				s.goes(100, 5, refusedAgain+3*time.Second)
				if s.count() != 10 {
					t.Errorf("afterwards %d are ended, and it says %+v", s.count(), s.last())
				}
			})
		})
	}
}
