// Package proxyproto reads the header of version 2 of the PROXY protocol, with
// which a load balancer says whom it speaks for. It is pure, and takes the bytes as
// they come; it reads no version 1, and makes no headers.
//
// The protocol: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

const (
	// signature is what every header begins with (section 2.2).
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	// fixed is how long the part is that tells how long the rest is, in bytes.
	fixed = 16
	// MaxLength is the longest header that is taken, in bytes. Addresses take 52 at
	// most; what comes after them, a client's certificate among it, is skipped.
	MaxLength = 4 << 10
)

// Families and protocols (section 2.2): what byte 13 may be.
const (
	unspecified = 0x00
	tcp4        = 0x11
	tcp6        = 0x21
)

var (
	errSignature = errors.New("no PROXY protocol v2 header: let the load balancer send one, version 2")
	errVersion1  = errors.New("a PROXY protocol v1 header: let the load balancer send version 2")
)

// Parse reads a header at the beginning of b. client is whom it names: not valid
// where the connection is the load balancer's own (LOCAL, or of no family). n is the
// header's length in bytes; 0: it is not whole yet, and more of it must come. What can
// be no header is told at the first byte that says so.
func Parse(b []byte) (client netip.AddrPort, n int, err error) {
	if known := min(len(b), len(signature)); string(b[:known]) != signature[:known] {
		if len(b) >= 5 && string(b[:5]) == "PROXY" {
			return client, 0, errVersion1
		}
		return client, 0, errSignature
	}
	var local bool
	if len(b) > 12 {
		switch b[12] {
		case 0x20:
			local = true
		case 0x21:
		default:
			return client, 0, fmt.Errorf("PROXY protocol: version and command %#02x are not those of version 2, LOCAL or PROXY", b[12])
		}
	}
	size := 0 // of the addresses
	if len(b) > 13 && !local {
		switch b[13] {
		case unspecified:
		case tcp4:
			size = 2*4 + 2*2
		case tcp6:
			size = 2*16 + 2*2
		default:
			return client, 0, fmt.Errorf("PROXY protocol: family and protocol %#02x are not those of TCP over IPv4 or IPv6", b[13])
		}
	}
	if len(b) < fixed {
		return client, 0, nil
	}
	length := int(binary.BigEndian.Uint16(b[14:]))
	switch n = fixed + length; {
	case n > MaxLength:
		return client, 0, fmt.Errorf("PROXY protocol: a header of %d bytes, more than %d", n, MaxLength)
	case length < size:
		return client, 0, fmt.Errorf("PROXY protocol: %d bytes are too few for the addresses, which take %d", length, size)
	case len(b) < n:
		return client, 0, nil
	}
	if size > 0 {
		if err := vectors(b[fixed+size : n]); err != nil {
			return client, 0, err
		}
		half := (size - 4) / 2
		source, _ := netip.AddrFromSlice(b[fixed : fixed+half])
		client = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(b[fixed+2*half:]))
	}
	return client, n, nil
}

// vectors checks that what follows the addresses is made of whole vectors: type,
// length, value (section 2.2). What they say is skipped.
func vectors(b []byte) error {
	for len(b) > 0 {
		if len(b) < 3 || len(b)-3 < int(binary.BigEndian.Uint16(b[1:])) {
			return errors.New("PROXY protocol: what follows the addresses is cut short")
		}
		b = b[3+int(binary.BigEndian.Uint16(b[1:])):]
	}
	return nil
}

// Missing is how many bytes may be read at once behind b, the beginning of a header
// that Parse has found no fault with, without reading beyond the header; 0: it is whole.
func Missing(b []byte) int {
	if len(b) < fixed {
		return fixed - len(b)
	}
	return max(0, fixed+int(binary.BigEndian.Uint16(b[14:]))-len(b))
}
