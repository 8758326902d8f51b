package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		want  packet
	}{
		"CONNACK": {
			mqtt.Connack{Version: mqtt.V5, User: []mqtt.User{{Name: wire.PropIncarnation, Value: "uid.1"}}}.Append(nil, 0),
			packet{kind: Connect, incarnation: "uid.1", queueDelay: -1},
		},
		"CONNACK that refuses": {
			mqtt.Connack{Version: mqtt.V5, Reason: mqtt.ServerBusy, User: []mqtt.User{{Name: wire.PropRetryAfter, Value: "1500"}}}.Append(nil, 0),
			packet{kind: Connect, reason: byte(mqtt.ServerBusy), retryAfter: 1500 * time.Millisecond, queueDelay: -1},
		},
		"PINGRESP": {mqtt.Pong, packet{kind: Ping, queueDelay: -1}},
		"PUBACK":   {mqtt.Puback{PacketID: 7}.Append(nil, mqtt.V5, 0), packet{kind: Beat, id: 7, queueDelay: -1}},
		"PUBACK with vitals": {
			mqtt.Puback{PacketID: 8, User: []mqtt.User{{Name: wire.PropQueueDelay, Value: "2500"}}}.Append(nil, mqtt.V5, 0),
			packet{kind: Beat, id: 8, queueDelay: 2500 * time.Microsecond},
		},
		"PUBACK with vitals that are none": {
			mqtt.Puback{PacketID: 9, User: []mqtt.User{{Name: wire.PropQueueDelay, Value: "-1"}}}.Append(nil, mqtt.V5, 0),
			packet{kind: Beat, id: 9, queueDelay: -1},
		},
		"DISCONNECT": {mqtt.Goodbye{Reason: mqtt.ServerShuttingDown}.Append(nil, 0), packet{goodbye: true, reason: byte(mqtt.ServerShuttingDown), queueDelay: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(c.frame)
			if err != nil {
				t.Fatal(err)
			}
			if string(c.frame) != string(mqtt.Pong) {
				clear(c.frame) // the next read does so
			}
			if *got != c.want {
				t.Errorf("got %+v, want %+v", *got, c.want)
			}
		})
	}
}

// FuzzParse looks for bytes that are a frame, and that parse panics on.
func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{
		mqtt.Pong, {0x20, 0x03, 0, 0, 0}, {0x40, 0x02, 0, 1}, {0x40, 0x04, 0, 1, 0, 0}, {0xe0, 0x00}, {0x20, 0x00}, {0x40, 0x80, 0x00},
		mqtt.Connack{Version: mqtt.V5, User: []mqtt.User{{Name: wire.PropIncarnation, Value: "uid.1"}}}.Append(nil, 0),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := mqtt.Frame(b, maxPacket)
		if err != nil || n == 0 {
			return
		}
		if p, err := parse(b[:n]); err == nil && p != nil && p.retryAfter < 0 {
			t.Errorf("%x: a wait of %v", b, p.retryAfter)
		}
	})
}

func TestWhatAnErrorSays(t *testing.T) {
	for err, want := range map[error]DialResult{
		nil:                      DialConnected,
		syscall.ECONNREFUSED:     DialRefused,
		syscall.ECONNRESET:       DialRefused,
		syscall.EHOSTUNREACH:     DialFailed,
		syscall.ETIMEDOUT:        DialFailed,
		context.DeadlineExceeded: DialFailed,
		syscall.ENETUNREACH:      DialLocal,
		syscall.EMFILE:           DialLocal,
		syscall.EADDRNOTAVAIL:    DialLocal,
	} {
		wrapped := err
		if err != nil {
			wrapped = fmt.Errorf("dial: %w", os.NewSyscallError("connect", err))
		}
		if got := dialResult(wrapped); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
	for err, want := range map[error]bool{io.EOF: true, syscall.ECONNRESET: true, errors.New("malformed"): false, os.ErrClosed: false} {
		if got := endedByPeer(err); got != want {
			t.Errorf("%v: by the peer: %v, want %v", err, got, want)
		}
	}
}
