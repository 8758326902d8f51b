package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// signature checks what one connection's client signs. Its key is of this
// connection alone: what was signed for another one, or for an earlier one, is worth nothing here.
type signature struct {
	mac hash.Hash
	// last is the time of the last signature that was taken, in Unix
	// milliseconds: the next must be later, so that none counts twice.
	last int64
	// What a check needs, so that it allocates nothing: the text before the
	// payload, and both MACs.
	text      [len(wire.TopicKeepAlive) + 32]byte
	want, got [sha256.Size]byte
}

// newSignature makes a key, and tells it as the client gets it.
func newSignature() (s *signature, key string) {
	var secret [wire.BeatKeySize]byte
	_, _ = rand.Read(secret[:]) // never fails
	return &signature{mac: hmac.New(sha256.New, secret[:])}, base64.RawURLEncoding.EncodeToString(secret[:])
}

// check tells why a publication is not taken; nil: it is the client's own, new, and of about now.
func (s *signature) check(pub *mqtt.Publish, now time.Time, maxSkew time.Duration) *refusal {
	signed := property(pub.User, wire.PropSigned)
	if signed == "" {
		return &refusal{why: whySignature, reason: mqtt.NotAuthorized, detail: "only signed beats count here: sign with the key of CONNACK (" + wire.PropBeatKey + ")"}
	}
	stamp, mac, _ := strings.Cut(signed, " ")
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || !s.matches(pub, stamp, mac) {
		return &refusal{why: whySignature, reason: mqtt.NotAuthorized, detail: "the signature is not of this connection's key, topic, time and payload"}
	}
	switch off := at - now.UnixMilli(); {
	case off > maxSkew.Milliseconds():
		return skewed(off, "ahead of", maxSkew)
	case off < -maxSkew.Milliseconds():
		// Whose clock it is, or whether the beat only waited on its way or for this
		// process, nobody can tell: it renews nothing, and the lease decides.
		r := skewed(-off, "behind", maxSkew)
		r.detail += ", unless the beat waited for as long on its way or here"
		r.tolerated = true
		return r
	case at <= s.last:
		return &refusal{why: whyReplay, reason: mqtt.NotAuthorized, detail: "the time of a signature must be later than that of the last one"}
	}
	s.last = at
	return nil
}

// skewed is no matter of credentials: another server, or the same one later, may
// take the client.
func skewed(off int64, where string, maxSkew time.Duration) *refusal {
	return &refusal{why: whySkew, reason: mqtt.ImplementationSpecific, detail: fmt.Sprintf(
		"the client's clock is %v %s the server's, where clients.signedBeats.maxSkew of the Presence allows %v: set the clock",
		time.Duration(min(off, int64(maxShownSkew/time.Millisecond)))*time.Millisecond, where, maxSkew)}
}

// maxShownSkew is the most that is told of a clock that is off.
const maxShownSkew = 365 * 24 * time.Hour

// matches compares in constant time.
func (s *signature) matches(pub *mqtt.Publish, stamp, mac string) bool {
	if len(mac) != base64.RawURLEncoding.EncodedLen(sha256.Size) || len(stamp) > 20 || len(pub.Topic) > len(wire.TopicKeepAlive) {
		return false
	}
	copy(s.text[:], mac)
	if n, err := base64.RawURLEncoding.Decode(s.got[:], s.text[:len(mac)]); err != nil || n != len(s.got) {
		return false
	}
	s.mac.Reset()
	s.mac.Write(wire.AppendSigned(s.text[:0], pub.Topic, stamp))
	s.mac.Write(pub.Payload)
	return hmac.Equal(s.mac.Sum(s.want[:0]), s.got[:])
}
