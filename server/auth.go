package server

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Tokens knows clients by static tokens, and, where it is told so, lets in
// those without one.
type Tokens struct {
	// known holds hashes, so that comparing takes as long for any two tokens.
	known     []token
	anonymous bool
}

type token struct {
	hash      [sha256.Size]byte
	principal Principal
}

// anonymous is who connects without a credential. It never reports.
var anonymous = Principal{Name: "anonymous", Rights: Connect}

// NewAuthenticator reads a file of tokens: a line each, "TOKEN PRINCIPAL RIGHTS",
// the rights (connect, report, watch) separated by commas; "#" begins a comment.
// An empty name is no file. allowAnonymous lets clients without a password
// connect, and without a file those with any.
func NewAuthenticator(file string, allowAnonymous bool) (*Tokens, error) {
	t := &Tokens{anonymous: allowAnonymous}
	if file == "" {
		if !allowAnonymous {
			return nil, errors.New("neither a file of tokens nor anonymous clients: nobody could connect")
		}
		return t, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return t, t.read(f, file)
}

func (t *Tokens) read(r io.Reader, name string) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 {
			return fmt.Errorf("%s:%d: a line is TOKEN PRINCIPAL RIGHTS", name, n)
		}
		rights, err := parseRights(fields[2])
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
		t.known = append(t.known, token{sha256.Sum256([]byte(fields[0])), Principal{Name: fields[1], Rights: rights}})
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(t.known) == 0 {
		return fmt.Errorf("%s: no tokens", name)
	}
	return nil
}

func parseRights(s string) (Rights, error) {
	var r Rights
	for word := range strings.SplitSeq(s, ",") {
		switch word {
		case "connect":
			r |= Connect
		case "report":
			r |= Report
		case "watch":
			r |= Watch
		default:
			return 0, fmt.Errorf("%q is not a right: connect, report, watch", word)
		}
	}
	return r, nil
}

// Authenticate tells who has the token that a client shows as its password.
func (t *Tokens) Authenticate(_ context.Context, c Credentials) (Principal, error) {
	hash := sha256.Sum256(c.Password)
	found := -1
	for i := range t.known { // all of them: how long it takes tells nothing
		if subtle.ConstantTimeCompare(hash[:], t.known[i].hash[:]) == 1 {
			found = i
		}
	}
	switch {
	case found >= 0:
		return t.known[found].principal, nil
	case t.anonymous && (len(c.Password) == 0 || len(t.known) == 0):
		return anonymous, nil
	}
	return Principal{}, ErrCredentials
}

// MayWatch tells whether a principal may watch any Presence: a file of tokens
// does not tell them apart.
func (t *Tokens) MayWatch(_, _, principal string) bool {
	for i := range t.known {
		if p := t.known[i].principal; p.Name == principal && p.Rights.Has(Watch) {
			return true
		}
	}
	return false
}
