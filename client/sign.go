package client

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"strconv"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// signer signs the beats of one connection, where its server has given a key.
type signer struct {
	// turn holds a token of whoever signs, until what is signed has been sent:
	// what was signed first must arrive first.
	turn chan struct{}

	// What follows is the holder's.

	mac  hash.Hash
	last int64 // the time of the last signature, in Unix milliseconds
	text []byte
}

// newSigner reads the key of a CONNACK.
func newSigner(key string) (*signer, error) {
	secret, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil || len(secret) != wire.BeatKeySize {
		return nil, fmt.Errorf("%w: %s is not %d bytes in base64url", ErrProtocol, wire.PropBeatKey, wire.BeatKeySize)
	}
	return &signer{turn: make(chan struct{}, 1), mac: hmac.New(sha256.New, secret)}, nil
}

// signs tells whether publications on a topic are beats, which must be signed.
func signs(topic string) bool { return topic == wire.TopicBeat || topic == wire.TopicKeepAlive }

// sign is the value of wire.PropSigned. Each has a later time than the one before,
// even where the clock stands or was set back a little.
func (s *signer) sign(now time.Time, topic string, payload []byte) string {
	s.last = max(now.UnixMilli(), s.last+1)
	stamp := strconv.FormatInt(s.last, 10)
	s.text = wire.AppendSigned(s.text[:0], topic, stamp)
	s.mac.Reset()
	s.mac.Write(s.text)
	s.mac.Write(payload)
	return stamp + " " + base64.RawURLEncoding.EncodeToString(s.mac.Sum(nil))
}

// beat sends a beat that will be answered: a PINGREQ, after a signed publication
// where the server wants one. While another one is on its way that is the beat.
func (s *session) beat(now time.Time) {
	if s.signer == nil {
		s.conn.ping()
		return
	}
	var b bytes.Buffer
	select {
	case s.signer.turn <- struct{}{}:
		defer func() { <-s.signer.turn }()
		signed := []packets.User{{Key: wire.PropSigned, Value: s.signer.sign(now, wire.TopicBeat, nil)}}
		_, _ = (&packets.Publish{Topic: wire.TopicBeat, Properties: &packets.Properties{User: signed}}).WriteTo(&b) // to memory
	default:
	}
	b.Write(pingreq)
	s.conn.Lock()
	defer s.conn.Unlock()
	_, _ = s.conn.Write(b.Bytes()) // its error shows in Read
}

// signed signs a publication that must be, and keeps others from signing until
// done is called.
func (s *session) signed(ctx context.Context, p *paho.Publish) (done func(), err error) {
	if s.signer == nil || !signs(p.Topic) {
		return func() {}, nil
	}
	select {
	case s.signer.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.Properties = &paho.PublishProperties{}
	p.Properties.User.Add(wire.PropSigned, s.signer.sign(s.now(), p.Topic, p.Payload))
	return func() { <-s.signer.turn }, nil
}
