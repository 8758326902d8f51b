package datagram

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Grant is what a server tells a client that may beat by datagrams.
type Grant struct {
	// Address is where to, host:port: of that very server.
	Address string
	Session Session
	// Key is the session's. It is a secret.
	Key [KeySize]byte
	// Time is what the server's clock showed, in milliseconds.
	Time uint64
}

// Format writes a Grant as ParseGrant reads it: address, place, arrival, key
// (base64url) and time, separated by spaces.
func (g Grant) Format() string {
	return fmt.Sprintf("%s %d %d %s %d", g.Address, g.Session.Place, g.Session.Arrival, base64.RawURLEncoding.EncodeToString(g.Key[:]), g.Time)
}

// ParseGrant reads a Grant; that its address is one whoever dials it finds. What more fields a newer server sends is left. Its
// error never holds the key.
func ParseGrant(s string) (Grant, error) {
	f := strings.Fields(s)
	if len(f) < 5 {
		return Grant{}, fmt.Errorf("datagram: a grant of %d fields, where 5 are needed", len(f))
	}
	place, err1 := strconv.ParseUint(f[1], 10, 32)
	arrival, err2 := strconv.ParseUint(f[2], 10, 64)
	time, err3 := strconv.ParseUint(f[4], 10, 64)
	if errors.Join(err1, err2, err3) != nil {
		return Grant{}, errors.New("datagram: a grant's place, arrival or time is not a number")
	}
	g := Grant{Address: f[0], Session: Session{uint32(place), arrival}, Time: time}
	key, err := base64.RawURLEncoding.Strict().DecodeString(f[3])
	if err != nil || len(key) != KeySize {
		return Grant{}, fmt.Errorf("datagram: a grant's key is not %d bytes in base64url", KeySize)
	}
	copy(g.Key[:], key)
	return g, nil
}
