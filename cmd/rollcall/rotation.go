package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/rollcall-dev/rollcall/agent/gossip"
)

const (
	// gossipAge is after how long the gossip key is exchanged.
	gossipAge = 90 * 24 * time.Hour
	// gossipSettle is the shortest time between two steps of that: until every
	// kubelet has brought the Secret to its node, and every agent has read it. A
	// kubelet takes two minutes at most while it runs.
	gossipSettle = 10 * time.Minute

	// rotateAnnotation, on the Secret, asks for another key before the time.
	rotateAnnotation = "rollcall.dev/rotate-gossip-key"
	// rotationAnnotation says which step was made last, and when.
	rotationAnnotation = "rollcall.dev/gossip-rotation"
)

// The steps of an exchange of keys. Each run makes one at most, so that nobody has
// to wait, and whoever dies on the way is followed by the next.
const (
	keyMade  = "made"  // one key, which all use
	keyAdded = "added" // the next one is understood by all, and used by none yet
	keyUsed  = "used"  // it is used by all, and the former still understood
)

// rotation is where an exchange of keys stands.
type rotation struct {
	keys gossip.Keys
	step string
	at   time.Time
}

// next is the step that is due now, if any. fresh is a key that may be needed.
func (r rotation) next(now time.Time, asked bool, fresh []byte) (after rotation, begun bool) {
	waited := now.Sub(r.at)
	after = rotation{keys: r.keys, step: r.step, at: now}
	switch {
	case len(r.keys) == 0:
		after.keys, after.step = gossip.Keys{fresh}, keyMade
	case r.step != keyMade && (len(r.keys) != 2 || r.step != keyAdded && r.step != keyUsed):
		after.step = keyMade // a person's, or from before there were steps
	case r.step == keyMade && (asked || waited >= gossipAge):
		// Only one is kept of what a person may have added.
		after.keys, after.step, begun = gossip.Keys{r.keys[0], fresh}, keyAdded, true
	case r.step == keyAdded && waited >= gossipSettle:
		after.keys, after.step = gossip.Keys{r.keys[1], r.keys[0]}, keyUsed
	case r.step == keyUsed && waited >= gossipSettle:
		after.keys, after.step = gossip.Keys{r.keys[0]}, keyMade
	default:
		return r, false
	}
	return after, begun
}

// rotationOf reads a Secret.
func rotationOf(s *corev1.Secret) (rotation, error) {
	var r rotation
	if raw := s.Data[gossipKey]; len(raw) > 0 {
		var err error
		if r.keys, err = gossip.ParseKeys(string(raw)); err != nil {
			// Another would cut every agent off from every other: that is for a person to decide.
			return r, fmt.Errorf("its field %s does not hold keys, a line each (mend it, or delete the Secret and restart the agents): %w", gossipKey, err)
		}
	}
	step, at, _ := strings.Cut(s.Annotations[rotationAnnotation], " ")
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		r.step, r.at = step, t
	}
	return r, nil
}

// gossipKeys makes the gossip key, and each step of its exchange that is due.
func (m *mint) gossipKeys(ctx context.Context) error {
	name := m.prefix + secretGossip
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // never fails
	err := retry.OnError(retry.DefaultBackoff, func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }, func() error {
		secret, err := m.api.Get(ctx, name, metav1.GetOptions{})
		absent := apierrors.IsNotFound(err)
		if err != nil && !absent {
			return err
		}
		if absent {
			secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: m.labels}, Type: corev1.SecretTypeOpaque}
		}
		was, err := rotationOf(secret)
		if err != nil {
			return err
		}
		_, asked := secret.Annotations[rotateAnnotation]
		now, begun := was.next(m.now, asked, fresh)
		if now.step == was.step && slices.EqualFunc(now.keys, was.keys, slices.Equal) {
			return nil
		}
		secret.Data = map[string][]byte{gossipKey: []byte(now.keys.Format())}
		secret.Annotations = maps.Clone(secret.Annotations)
		if secret.Annotations == nil {
			secret.Annotations = map[string]string{}
		}
		secret.Annotations[rotationAnnotation] = now.step + " " + now.at.UTC().Format(time.RFC3339)
		if begun {
			delete(secret.Annotations, rotateAnnotation)
		}
		if absent {
			_, err = m.api.Create(ctx, secret, metav1.CreateOptions{})
		} else {
			_, err = m.api.Update(ctx, secret, metav1.UpdateOptions{})
		}
		if err == nil {
			m.log.Info("Gossip keys written", "secret", name, "step", now.step, "keys", len(now.keys))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}
