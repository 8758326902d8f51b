package client

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// script is a connection that returns given bytes, at most step at a time.
type script struct {
	net.Conn
	r    *bytes.Reader
	step int
}

func (s *script) Read(p []byte) (int, error)      { return s.r.Read(p[:min(len(p), s.step)]) }
func (s *script) Close() error                    { return nil }
func (s *script) SetReadDeadline(time.Time) error { return nil }

// Whatever a server sends, in whatever pieces: paho's reader neither panics nor
// reserves more than was declared, every packet that it reads was told, and it
// reads none that frames refuses.
func FuzzConn(f *testing.F) {
	f.Add([]byte{0x20, 3, 0, 0, 0, 0xD0, 0}, 1)
	f.Add([]byte{0x20, 3, 0, 0, 0, 0xE0, 2, 0x9C, 0}, 3)
	f.Add([]byte{0x20, 3, 0, 0, 0, 0x40, 2, 0, 1, 0x30, 4, 0, 1, 'x', 0}, 100)
	f.Add([]byte{0x20, 0xFF, 0xFF, 0xFF, 0x7F}, 2)
	f.Add([]byte("HTTP/1.1 200 OK\r\n"), 7)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		told := 0
		c := newConn(&script{r: bytes.NewReader(data), step: max(step, 1)}, time.Second, func(byte) { told++ })
		read := 0
		for {
			p, err := packets.ReadPacket(c)
			if err != nil {
				break
			}
			if first := read == 0; first != (p.Type == packets.CONNACK) {
				t.Fatalf("packet %d is %s", read, p.PacketType())
			}
			read++
		}
		// The last one told may have been refused for its content.
		if read > 0 && told != read-1 && told != read {
			t.Fatalf("%d packets after CONNACK told, %d read", told, read-1)
		}
	})
}

func TestReadsInSmallPieces(t *testing.T) {
	data := []byte{0x20, 3, 0, 0, 0, 0xD0, 0, 0xD0, 0}
	for step := 1; step <= len(data); step++ {
		var told []byte
		c := newConn(&script{r: bytes.NewReader(data), step: step}, time.Second, func(k byte) { told = append(told, k) })
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{c}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(told, []byte{packets.PINGRESP, packets.PINGRESP}) {
			t.Errorf("in pieces of %d: %v", step, told)
		}
	}
}
