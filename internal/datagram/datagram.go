// Package datagram is the form of beats by UDP: bytes ↔ messages, sealed and
// opened without allocating. It knows no sessions, no sockets and no clock.
//
// A datagram has 48 bytes, a question as well as its answer:
//
//	 0  version (1)
//	 1  kind
//	 2  zero, 2 bytes
//	 4  place    of the session, big endian like all that follows
//	 8  arrival  of the session
//	16  counter  from 1; greater than that of any earlier question
//	20  sealed: time, 8 bytes; interval, 4 bytes
//	32  tag, 16 bytes
//
// It is ChaCha20-Poly1305 (RFC 8439) with a key for each session: the first 20
// bytes are its additional data, and its nonce is four zeros, the kind, three
// zeros and the counter. So question and answer differ in their nonces, and no
// counter is used twice for one kind.
//
// The session's key is HChaCha20 of the server's own key and the 16 bytes place,
// arrival and four zeros: a server opens what is sealed with it by
// XChaCha20-Poly1305 with its own key and those bytes before the nonce. It keeps
// no key but that one, and makes none for a datagram.
package datagram

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// Size is the length of every datagram, in bytes.
const Size = 48

// KeySize is the length of a key, in bytes.
const KeySize = chacha20poly1305.KeySize

const (
	version    = 1
	headerSize = 20
	sealedSize = 12
)

// Kind is what a datagram says.
type Kind uint8

// The kinds of datagrams.
const (
	// Beat and Leave are questions: I am here, and I go on purpose.
	Beat Kind = 1 + iota
	Leave
	// OK answers a Beat, and a Leave of a session that ends by it; Draining a Beat
	// whose client shall go to another server. Their Time is the server's.
	OK
	Draining
	// Gone answers for a session that there is no more. Its Time and Interval are
	// zero: whatever is asked again is answered with the same bytes.
	Gone
	// Skewed answers a question whose time was too far from the server's: it does not
	// count. Its Time is the server's, by which the client may ask again.
	Skewed
)

// Question tells whether a datagram of this kind comes from a client.
func (k Kind) Question() bool { return k == Beat || k == Leave }

func (k Kind) known() bool { return k >= Beat && k <= Skewed }

// Session names a session of one server process.
type Session struct {
	Place   uint32
	Arrival uint64
}

// Message is what a datagram says.
type Message struct {
	Kind    Kind
	Session Session
	Counter uint32
	// Time is by the clock of the server, in milliseconds since it pleases: a
	// client reckons it from the last that it was told.
	Time uint64
	// Interval until the next beat in milliseconds; 0: as before. In an answer it is
	// the one that counts.
	Interval uint32
}

var (
	// ErrMalformed: it has not the form of a datagram of this version.
	ErrMalformed = errors.New("datagram: not of this form")
	// ErrForged: it was not sealed with this key.
	ErrForged = errors.New("datagram: not sealed with this key")
)

// Server seals and opens for all sessions of a server process. It is for one
// goroutine at a time, but for Key.
type Server struct {
	box
	key [KeySize]byte
}

// NewServer makes a Server of a key, which must be random and nobody else's.
func NewServer(key [KeySize]byte) (*Server, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, err
	}
	return &Server{box{aead: aead}, key}, nil
}

// Key is the key for a session's client.
func (s *Server) Key(of Session) (key [KeySize]byte) {
	var b box
	b.address(of)
	derived, err := chacha20.HChaCha20(s.key[:], b.nonce[:16])
	if err != nil {
		panic(err) // the lengths are constant
	}
	copy(key[:], derived)
	return key
}

// Open reads a question: ErrMalformed or ErrForged where it is none.
func (s *Server) Open(b []byte) (Message, error) {
	m, err := header(b)
	if err != nil || !m.Kind.Question() {
		return Message{}, ErrMalformed
	}
	s.address(m.Session)
	return s.open(m, b, s.nonce[:])
}

// Seal writes an answer to the first Size bytes of b.
func (s *Server) Seal(b []byte, m Message) {
	s.address(m.Session)
	s.seal(m, b, s.nonce[:])
}

// Client seals and opens for one session. It is for one goroutine at a time.
type Client struct {
	box
	session Session
}

// NewClient makes a Client of the key that its server has given it.
func NewClient(session Session, key [KeySize]byte) (*Client, error) {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		return nil, err
	}
	return &Client{box{aead: aead}, session}, nil
}

// Open reads an answer: ErrMalformed or ErrForged where it is none to this session.
func (c *Client) Open(b []byte) (Message, error) {
	m, err := header(b)
	if err != nil || m.Kind.Question() || m.Session != c.session {
		return Message{}, ErrMalformed
	}
	return c.open(m, b, c.nonce[nonceAt:])
}

// Seal writes a question of this session to the first Size bytes of b.
func (c *Client) Seal(b []byte, m Message) {
	m.Session = c.session
	c.seal(m, b, c.nonce[nonceAt:])
}

// nonceAt is where the nonce with a session's own key begins in the one with the
// server's: both end in the same 12 bytes.
const nonceAt = chacha20poly1305.NonceSizeX - chacha20poly1305.NonceSize

// box is what sealing and opening have in common, and the memory for it, because
// what is handed to an interface would be allocated each time.
type box struct {
	aead  cipher.AEAD
	nonce [chacha20poly1305.NonceSizeX]byte
	plain [sealedSize]byte
}

// address sets the part of the nonce that stands for the session.
func (b *box) address(s Session) {
	binary.BigEndian.PutUint32(b.nonce[0:], s.Place)
	binary.BigEndian.PutUint64(b.nonce[4:], s.Arrival)
}

// number sets the part that stands for the message.
func (b *box) number(m Message) {
	b.nonce[16] = byte(m.Kind)
	binary.BigEndian.PutUint32(b.nonce[20:], m.Counter)
}

// Peek is what a question says in the clear, which anybody may have written; false:
// it has not the form of one.
func Peek(b []byte) (of Session, counter uint32, ok bool) {
	m, err := header(b)
	return m.Session, m.Counter, err == nil && m.Kind.Question()
}

func header(b []byte) (Message, error) {
	if len(b) != Size || b[0] != version || b[2] != 0 || b[3] != 0 || !Kind(b[1]).known() {
		return Message{}, ErrMalformed
	}
	return Message{
		Kind: Kind(b[1]), Counter: binary.BigEndian.Uint32(b[16:]),
		Session: Session{Place: binary.BigEndian.Uint32(b[4:]), Arrival: binary.BigEndian.Uint64(b[8:])},
	}, nil
}

func (b *box) open(m Message, d, nonce []byte) (Message, error) {
	b.number(m)
	if _, err := b.aead.Open(b.plain[:0], nonce, d[headerSize:], d[:headerSize]); err != nil {
		return Message{}, ErrForged
	}
	m.Time, m.Interval = binary.BigEndian.Uint64(b.plain[0:]), binary.BigEndian.Uint32(b.plain[8:])
	return m, nil
}

func (b *box) seal(m Message, d, nonce []byte) {
	d = d[:Size]
	d[0], d[1], d[2], d[3] = version, byte(m.Kind), 0, 0
	binary.BigEndian.PutUint32(d[4:], m.Session.Place)
	binary.BigEndian.PutUint64(d[8:], m.Session.Arrival)
	binary.BigEndian.PutUint32(d[16:], m.Counter)
	binary.BigEndian.PutUint64(b.plain[0:], m.Time)
	binary.BigEndian.PutUint32(b.plain[8:], m.Interval)
	b.number(m)
	b.aead.Seal(d[headerSize:headerSize], nonce, b.plain[:], d[:headerSize])
}
