package gossip

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// maxKeys bounds a ring of keys: every message is tried with each of them.
const maxKeys = 8

// Keys of gossip: the first encrypts, all decrypt. To exchange one without losing
// a member, add the new one behind the old everywhere, then put it first
// everywhere, then take the old one away.
type Keys [][]byte

func (k Keys) validate() error {
	if len(k) > maxKeys {
		return fmt.Errorf("%d keys, where at most %d are needed", len(k), maxKeys)
	}
	for _, key := range k {
		switch len(key) {
		case 16, 24, 32:
		default:
			return fmt.Errorf("a key of %d bytes, where 16, 24 or 32 are needed", len(key))
		}
	}
	return nil
}

// ParseKeys reads keys as files have them: a line each, in base64.
func ParseKeys(text string) (Keys, error) {
	var k Keys
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return nil, errors.New("a line is not a key in base64")
		}
		k = append(k, key)
	}
	if len(k) == 0 {
		return nil, errors.New("no key")
	}
	return k, k.validate()
}

// Format is what ParseKeys reads.
func (k Keys) Format() string {
	var b strings.Builder
	for _, key := range k {
		b.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	}
	return b.String()
}

// within tells whether each of the keys is among others.
func (k Keys) within(others Keys) bool {
	return !slices.ContainsFunc(k, func(key []byte) bool {
		return !slices.ContainsFunc(others, func(o []byte) bool { return bytes.Equal(o, key) })
	})
}

// keyring is memberlist's; nil: nothing is encrypted.
func (k Keys) keyring() (*memberlist.Keyring, error) {
	if len(k) == 0 {
		return nil, nil
	}
	return memberlist.NewKeyring(k, k[0])
}

// SetKeys exchanges the keys while gossip runs, and returns whether that changed
// anything. Gossip that began without keys, or with, stays so. It may be called
// concurrently.
func (g *Gossip) SetKeys(keys Keys) (changed bool, err error) {
	switch err := keys.validate(); {
	case err != nil:
		return false, fmt.Errorf("gossip: %w", err)
	case g.ring == nil:
		return false, errors.New("gossip: it began without a key: restart the agent")
	case len(keys) == 0:
		return false, errors.New("gossip: no key is left")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := Keys(g.ring.GetKeys()) // the one that encrypts comes first
	if bytes.Equal(before[0], keys[0]) && before.within(keys) && keys.within(before) {
		return false, nil
	}
	// Never a moment in which what some other agent uses is not understood.
	for _, key := range keys {
		if err := g.ring.AddKey(key); err != nil {
			return false, fmt.Errorf("gossip: add a key: %w", err)
		}
	}
	if err := g.ring.UseKey(keys[0]); err != nil {
		return true, fmt.Errorf("gossip: use a key: %w", err)
	}
	for _, old := range before {
		if (Keys{old}).within(keys) {
			continue
		}
		if err := g.ring.RemoveKey(old); err != nil {
			return true, fmt.Errorf("gossip: remove a key: %w", err)
		}
	}
	return true, nil
}
