package failover

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/retry"
	"github.com/rollcall-dev/rollcall/internal/plan"
)

const (
	// stale is how long a decision is tried to be recorded. After that the
	// judge decides anew, on what is the case then.
	stale = 10 * time.Second
	// again is how long a server is left alone after its Failover was refused.
	again = 5 * time.Second
	// maxEvidence is the API's bound on spec.evidence, in characters.
	maxEvidence = 1024
	// suffix is the length of what makes a name unique, as in generateName.
	suffix = 5
)

// Opener records decisions as Failovers. Every field is needed.
type Opener struct {
	Client client.Client
	// Live reads past the cache.
	Live     client.Reader
	Ledger   *Ledger
	Follower *Follower
	Retry    *retry.Retrier
	Logger   *slog.Logger
	Metrics  *Metrics
}

// Open creates the Failover of a decision and begins it. It returns at once;
// while a Failover for the server is being created already it does nothing.
// base is what the server held when it was last seen well.
func (o *Opener) Open(t *lead.Tenure, presence *v1alpha1.Presence, m plan.Move, base evidence.Baseline) {
	active := plan.Active{Server: m.Server, Reason: m.Reason, Started: time.Now(), Pending: m.Clients, Targets: m.Targets}
	if !o.Ledger.open(m.Server, active) {
		return
	}
	o.Follower.Go(func() { o.open(t, presence, m, base) })
}

func (o *Opener) open(t *lead.Tenure, presence *v1alpha1.Presence, m plan.Move, base evidence.Baseline) {
	log := o.Logger.With("presence", presence.Namespace+"/"+presence.Name, "server", m.Server, "reason", m.Reason)
	log.Info("Failover decided", "evidence", m.Evidence, "clients", m.Clients, "count", m.Count,
		"targets", len(m.Targets), "rate", m.Rate, "advised", m.AdviseOnly)
	ctx, cancel := context.WithTimeout(t.Context, stale)
	defer cancel()
	wanted := record(presence, m, base)
	// Whoever hears of the object first, this or the reconciler, carries out
	// what was planned.
	o.Follower.expect(client.ObjectKeyFromObject(wanted), Choice{Targets: m.Targets, Rate: m.Rate, FirstWave: m.FirstWave})
	made, err := o.create(ctx, wanted)
	if err != nil {
		o.Follower.drop(client.ObjectKeyFromObject(wanted))
		if !errors.Is(err, context.Canceled) {
			log.Error("Failover could not be recorded, so nothing is moved", "err", err)
		}
		pause, cancel := context.WithTimeout(t.Context, again)
		defer cancel()
		<-pause.Done()
		o.Ledger.opened(m.Server)
		return
	}
	o.Metrics.created(m.Reason)
	o.Ledger.Wrote(made)
	o.Ledger.opened(m.Server)
	created(o.Follower.Recorder, presence, made, m.AdviseOnly)
	o.Follower.begin(t, client.ObjectKeyFromObject(made))
}

// create makes the object, once: its name is chosen here, so that an attempt
// whose answer was lost is found again.
func (o *Opener) create(ctx context.Context, wanted *v1alpha1.Failover) (*v1alpha1.Failover, error) {
	var made *v1alpha1.Failover
	err := o.Retry.Do(ctx, "createFailover", func(ctx context.Context) error {
		made = wanted.DeepCopy()
		err := o.Client.Create(ctx, made)
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := o.Live.Get(ctx, client.ObjectKeyFromObject(wanted), made); err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(made.Spec, wanted.Spec) {
			return err // another of this name: the next judgement chooses another
		}
		return nil
	})
	return made, err
}

// record is the object that a decision becomes.
func record(presence *v1alpha1.Presence, m plan.Move, base evidence.Baseline) *v1alpha1.Failover {
	_, pod, _ := strings.Cut(m.Server, "/")
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: presence.Namespace, Name: pod + "-" + rand.String(suffix),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "Presence",
				Name: presence.Name, UID: presence.UID, Controller: new(true),
			}},
		},
		Spec: v1alpha1.FailoverSpec{
			Presence: presence.Name, Server: pod, Incarnation: m.Incarnation,
			Reason: v1alpha1.FailoverReason(m.Reason), Evidence: shorten(m.Evidence, maxEvidence),
			Clients: int32(base.Clients), TakenOver: int32(base.TakenOver.Total()),
		},
	}
	if name := v1alpha1.InstallationOf(presence); name != "" {
		fo.Labels = map[string]string{v1alpha1.InstallationLabel: name} // for when the Presence is gone
	}
	if m.Count > 0 {
		count := int32(m.Count)
		fo.Spec.Count = &count
	}
	if !m.Detected.IsZero() {
		fo.Spec.DetectedAt = micro(m.Detected)
	}
	for _, t := range m.Targets {
		_, receiver, _ := strings.Cut(t.Server, "/")
		fo.Spec.Targets = append(fo.Spec.Targets, v1alpha1.FailoverTarget{Server: receiver, Weight: int32(t.Weight)})
	}
	return fo
}

// shorten cuts a text to at most n characters.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
