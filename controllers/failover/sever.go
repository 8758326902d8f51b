package failover

import (
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

const (
	// unmoved is how long a server may do nothing about its directive before its
	// connections are ended from outside; at a slow pace as long as it takes to
	// move unmovedClients.
	unmoved        = time.Second
	unmovedClients = 3
	// renewSever is how often an order to sever is renewed. Severers follow one
	// for v1alpha1.SeverOrderGood after they saw it renewed.
	renewSever = v1alpha1.SeverOrderGood / 3
)

// Severing is what an order to sever is made of. The zero value forbids it.
type Severing struct {
	Policy v1alpha1.SeverPolicy
	// Installation is this one, by its namespace.
	Installation string
	// Port that clients use; Node and PodUID of the server's pod.
	Port   intstr.IntOrString
	Node   string
	PodUID types.UID
	// Divert is how new clients are led past the pod; empty: by its label.
	Divert v1alpha1.DivertMode
	// Out: no Service leads to the pod that follows the accepting label, or the pod's
	// readiness, or will not in a moment.
	Out bool
}

// sever asks for the server's connections to be ended, or no longer. That is
// asked while all of this holds: the Presence says so, the evidence at hand
// proves that the server is in trouble (one that has begun to answer again is
// left alone), its directive stands and moves at some pace, new clients are led
// elsewhere, and the server has done nothing about its directive for a while.
func (s Step) sever(fo *v1alpha1.Failover, f Facts) Step {
	if d := f.Server.Record.Drain; d != nil && d.Failover == fo.Namespace+"/"+fo.Name && d.Told > s.Memory.Told {
		s.Memory.Told, s.Memory.Acted = d.Told, f.Now
	}
	own := f.directs(fo)
	rate := s.Memory.Pace.Rate
	if s.Memory.Pace.At.IsZero() && own {
		rate = f.Directive.Rate // as an earlier leader had it
	}
	may := f.Sever.Policy.Mode == v1alpha1.SeverPaced && f.Sever.Node != "" && f.Sever.PodUID != "" && f.Sever.Out &&
		Drains(fo) && f.Proven && f.State.Bad() && own && rate > 0 &&
		(f.Service == nil || f.Server.Record.Incarnation == s.Memory.Incarnation)
	if !may {
		s.Status.Sever = nil
		return s
	}
	patience := max(unmoved, time.Duration(unmovedClients/rate*float64(time.Second)))
	if wait := latest(s.Memory.Put, s.Memory.Acted).Add(patience).Sub(f.Now); wait > 0 {
		s.Status.Sever = nil
		s.After = min(s.After, wait)
		return s
	}
	if p := f.Sever.Policy.ClientsPerSecond; p != nil {
		rate = min(rate, float64(*p))
	}
	order := v1alpha1.SeverOrder{
		Installation: f.Sever.Installation, Node: f.Sever.Node, PodUID: f.Sever.PodUID, Port: f.Sever.Port, Divert: f.Sever.Divert,
		ClientsPerSecond: int32(max(1, math.Round(rate))), FirstWave: int32(f.Directive.FirstWave),
	}
	if last := s.Status.Sever; last != nil && f.Now.Sub(last.RenewedAt.Time) < renewSever && !last.RenewedAt.After(f.Now) {
		order.RenewedAt = last.RenewedAt
	} else {
		order.RenewedAt = metav1.NewMicroTime(f.Now)
	}
	s.Status.Sever = &order
	s.After = min(s.After, order.RenewedAt.Add(renewSever).Sub(f.Now))
	return s
}
