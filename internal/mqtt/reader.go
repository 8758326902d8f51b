package mqtt

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// reader takes fields off the front of a packet. The first thing that is wrong
// stays in err, and everything read after it is zero.
type reader struct {
	b   []byte
	err error
}

// fail says that the bytes are not a packet.
func (r *reader) fail(format string, args ...any) { r.stop(malformed(format, args...)) }

// violate says that the packet is one that must not be sent.
func (r *reader) violate(format string, args ...any) { r.stop(violation(format, args...)) }

// stop leaves nothing to be read: every loop over what is left ends.
func (r *reader) stop(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) take(n int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.b) {
		r.fail("%s: %d bytes, where %d are left", what, n, len(r.b))
		return nil
	}
	t := r.b[:n:n]
	r.b = r.b[n:]
	return t
}

func (r *reader) byte(what string) byte {
	if b := r.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16(what string) uint16 {
	if b := r.take(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if b := r.take(4, what); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// binary reads a length of two bytes and so many bytes.
func (r *reader) binary(what string) []byte { return r.take(int(r.uint16(what)), what) }

// string reads a UTF-8 string: valid, and without U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func (r *reader) string(what string) string {
	b := r.binary(what)
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		r.fail("%s is not UTF-8", what)
		return ""
	}
	return string(b)
}

func (r *reader) varint(what string) int {
	if r.err != nil {
		return 0
	}
	n, used, err := varint(r.b)
	if err != nil || used == 0 || used > 1 && r.b[used-1] == 0 {
		r.fail("%s: not a variable byte integer", what) // in as few bytes as possible [MQTT-1.5.5-1]
		return 0
	}
	r.b = r.b[used:]
	return n
}

// end fails where bytes are left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes after the end", len(r.b))
	}
	return r.err
}

// varint decodes a variable byte integer (section 1.5.5); used is 0 where more
// bytes are needed.
func varint(b []byte) (n, used int, err error) {
	for i := range min(len(b), 4) {
		n |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, i + 1, nil
		}
	}
	if len(b) >= 4 {
		return 0, 0, malformed("a length of more than four bytes")
	}
	return 0, 0, nil
}
