package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

const (
	// maxAnswer is how much of an answer is read: a probe asks for little.
	maxAnswer = 64 << 10
	// drainFor is how long is waited for what has come already.
	drainFor  = time.Millisecond
	userAgent = "rollcall-probe"
)

// Way is how a service is asked.
type Way interface {
	// Open makes an asker of a new connection. What it says to begin with, and a TLS
	// handshake, are a part of the first question.
	Open(ctx context.Context, conn net.Conn) (Asker, error)
	// Once tells that a connection bears one question only.
	Once() bool
}

// Asker asks one question and waits for the whole answer. It returns errLast
// beside an answer after which the connection ends, a WrongAnswer for one that
// is not as it should be, and any other error where none came. The end of its
// context, or of the connection, ends it.
type Asker func(ctx context.Context) error

// errLast: the answer came, and the server ends the connection.
var errLast = errors.New("the server ends the connection after its answer")

// WrongAnswer is an answer, and not the one expected.
type WrongAnswer struct{ Got, Want string }

func (w *WrongAnswer) Error() string { return "it answers " + w.Got + ", expected was " + w.Want }

// Unaskable is the lack of something to ask with, which is not the server's doing.
type Unaskable struct{ Why string }

func (u *Unaskable) Error() string { return u.Why }

// Credentials are headers that are kept elsewhere: they may change, and may not be
// there. Their methods don't block, and are called from any goroutine.
type Credentials interface {
	// Headers to send now, which are not changed by anybody, or an Unaskable; nil:
	// they are being read, and nothing can be said yet.
	Headers() (http.Header, *Unaskable)
	// Refused tells that a server would not have these: they may be out of date. It
	// returns what is said of it.
	Refused(code int) *Unaskable
}

// errNotYet: there will be something to ask with in a moment.
var errNotYet = errors.New("what it is asked with is being read")

// overTLS speaks TLS on conn, where config says so.
func overTLS(ctx context.Context, conn net.Conn, config *tls.Config, protocols ...string) (net.Conn, error) {
	if config == nil {
		return conn, nil
	}
	config = config.Clone()
	config.NextProtos = protocols
	c := tls.Client(conn, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

// HTTP asks with GET requests of HTTP/1.1.
type HTTP struct {
	// Address is where it is connected to; Host stands in the Host header, empty: Address.
	Address, Host, Path string
	Headers             http.Header
	// Credentials are sent too, in place of Headers of the same name; nil: none.
	Credentials Credentials
	Codes       Codes
	TLS         *tls.Config
}

// Once is false.
func (h *HTTP) Once() bool { return false }

// Open sends nothing yet, but for a TLS handshake.
func (h *HTTP) Open(ctx context.Context, conn net.Conn) (Asker, error) {
	conn, err := overTLS(ctx, conn, h.TLS, "http/1.1")
	if err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn}
	r := bufio.NewReaderSize(limited, 1<<10)
	return func(ctx context.Context) error {
		limited.N = 2 * maxAnswer // its header, which nothing else bounds, and its body
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Address+h.Path, nil)
		if err != nil {
			return err
		}
		req.Host = h.Host
		req.Header.Set("User-Agent", userAgent)
		maps.Copy(req.Header, h.Headers)
		if err := h.authorize(req); err != nil {
			return err
		}
		if err := req.Write(conn); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, req) //nolint:bodyclose // what is read of it is bounded, and the connection is ours
		switch {
		case err != nil && limited.N <= 0:
			return errors.New("it answers with a header without end")
		case err != nil:
			return err
		}
		n, err := io.CopyN(io.Discard, resp.Body, maxAnswer)
		long := n == maxAnswer || limited.N <= 0
		if err != nil && !errors.Is(err, io.EOF) && !long {
			return err
		}
		switch {
		case !h.Codes.hold(resp.StatusCode):
			if refused := resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden; refused && h.Credentials != nil {
				return h.Credentials.Refused(resp.StatusCode)
			}
			return &WrongAnswer{strconv.Itoa(resp.StatusCode), h.Codes.String()}
		case resp.Close, long: // what is left of a long one is in the way
			return errLast
		}
		return nil
	}, nil
}

// authorize adds the credentials.
func (h *HTTP) authorize(req *http.Request) error {
	if h.Credentials == nil {
		return nil
	}
	secret, none := h.Credentials.Headers()
	switch {
	case none != nil:
		return none
	case secret == nil:
		return errNotYet
	}
	maps.Copy(req.Header, secret)
	return nil
}

// Codes are ranges of status codes, both ends included.
type Codes [][2]int

// ParseCodes reads "200" and "200-399".
func ParseCodes(all []string) (Codes, error) {
	var c Codes
	for _, s := range all {
		first, last, isRange := strings.Cut(s, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.Atoi(first)
		high, err2 := strconv.Atoi(last)
		if err := errors.Join(err, err2); err != nil || low > high {
			return nil, fmt.Errorf("status codes %q: give one such as 200, or a range such as 200-399", s)
		}
		c = append(c, [2]int{low, high})
	}
	return c, nil
}

func (c Codes) hold(code int) bool {
	return slices.ContainsFunc(c, func(r [2]int) bool { return r[0] <= code && code <= r[1] })
}

func (c Codes) String() string {
	var l []string
	for _, r := range c {
		if r[0] == r[1] {
			l = append(l, strconv.Itoa(r[0]))
		} else {
			l = append(l, fmt.Sprintf("%d to %d", r[0], r[1]))
		}
	}
	return strings.Join(l, ", ")
}

// GRPC calls grpc.health.v1.Health/Check.
type GRPC struct {
	Address, Service string
	TLS              *tls.Config
}

// Once is false.
func (g *GRPC) Once() bool { return false }

// Open begins HTTP/2.
func (g *GRPC) Open(ctx context.Context, conn net.Conn) (Asker, error) {
	conn, err := overTLS(ctx, conn, g.TLS, "h2")
	if err != nil {
		return nil, err
	}
	//nolint:staticcheck // net/http's successor dials itself; here the connection is there, and its kernel is asked
	transport := &http2.Transport{AllowHTTP: true, DisableCompression: true, MaxHeaderListSize: 16 << 10}
	cc, err := transport.NewClientConn(conn) //nolint:staticcheck // likewise
	if err != nil {
		return nil, fmt.Errorf("HTTP/2: %w", err)
	}
	question, err := proto.Marshal(&healthpb.HealthCheckRequest{Service: g.Service})
	if err != nil {
		return nil, err
	}
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(question)))
	framed = append(framed, question...)
	scheme := "http"
	if g.TLS != nil {
		scheme = "https"
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+g.Address+healthpb.Health_Check_FullMethodName, bytes.NewReader(framed))
		if err != nil {
			return err
		}
		req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {userAgent}}
		resp, err := cc.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return err
		}
		return g.understand(resp, body)
	}, nil
}

// understand reads an answer: a status, in a header where there is no message,
// and else in a trailer, and one message.
func (g *GRPC) understand(resp *http.Response, body []byte) error {
	const serving = "SERVING"
	if resp.StatusCode != http.StatusOK {
		return &WrongAnswer{"HTTP " + strconv.Itoa(resp.StatusCode), serving}
	}
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" {
		status = resp.Header.Get("Grpc-Status")
	}
	switch n, err := strconv.ParseUint(status, 10, 32); {
	case err != nil:
		return &WrongAnswer{"without a gRPC status", serving}
	case codes.Code(n) == codes.Unimplemented:
		return &WrongAnswer{"that it has no health service", serving}
	case codes.Code(n) == codes.NotFound:
		return &WrongAnswer{fmt.Sprintf("that it doesn't know service %q", g.Service), serving}
	case n != 0:
		return &WrongAnswer{"status " + codes.Code(n).String(), serving}
	}
	var answer healthpb.HealthCheckResponse
	if len(body) < 5 || body[0] != 0 || proto.Unmarshal(body[5:], &answer) != nil {
		return &WrongAnswer{"what is no health message", serving}
	}
	if answer.Status != healthpb.HealthCheckResponse_SERVING {
		return &WrongAnswer{answer.Status.String(), serving}
	}
	return nil
}

// TCP sends some bytes, and waits for others.
type TCP struct {
	Send, Expect []byte
	Single       bool // one question for each connection
	TLS          *tls.Config
}

// Once is as it was set.
func (t *TCP) Once() bool { return t.Single }

// Open sends nothing yet, but for a TLS handshake.
func (t *TCP) Open(ctx context.Context, conn net.Conn) (Asker, error) {
	conn, err := overTLS(ctx, conn, t.TLS)
	if err != nil {
		return nil, err
	}
	got := make([]byte, 0, 512)
	asked := false
	return func(context.Context) error {
		if asked {
			if err := drain(conn, got[:cap(got)]); err != nil {
				return err
			}
		}
		asked = true
		if _, err := conn.Write(t.Send); err != nil {
			return err
		}
		for got = got[:0]; ; {
			if len(got) == cap(got) {
				got = append(got, 0)[:len(got)]
			}
			n, err := conn.Read(got[len(got):cap(got)])
			got = got[:len(got)+n]
			switch {
			case bytes.Contains(got, t.Expect):
				return nil
			case err != nil && len(got) > 0, len(got) >= maxAnswer:
				return &WrongAnswer{strconv.Quote(string(got[:min(len(got), 60)])), strconv.Quote(string(t.Expect))}
			case err != nil:
				return err
			}
		}
	}, nil
}

// drain reads what has come before a question is asked: what a server says first,
// or has said late, is not its answer to this one. It returns errLast where it
// speaks all the time, so that no answer can be told from another.
func drain(conn net.Conn, buf []byte) error {
	if err := conn.SetReadDeadline(time.Now().Add(drainFor)); err != nil {
		return err
	}
	for drained := 0; drained < maxAnswer; {
		n, err := conn.Read(buf)
		drained += n
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return conn.SetReadDeadline(time.Time{})
		case err != nil:
			return err
		}
	}
	return errLast
}

// Unescape reads what stands for bytes in a probe's send and expect: \r, \n,
// \t, \\ and \xNN.
func Unescape(s string) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		if i++; i == len(s) {
			return nil, fmt.Errorf("%q ends with a backslash: write \\\\ for one", s)
		}
		switch s[i] {
		case 'r':
			out = append(out, '\r')
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case '\\':
			out = append(out, '\\')
		case 'x':
			if i+2 >= len(s) {
				return nil, fmt.Errorf("%q: after \\x come two hexadecimal digits", s)
			}
			b, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return nil, fmt.Errorf("%q: after \\x come two hexadecimal digits", s)
			}
			out = append(out, byte(b))
			i += 2
		default:
			return nil, fmt.Errorf("%q: \\%c is not known: after a backslash comes one of r, n, t, \\ and xNN", s, s[i])
		}
	}
	return out, nil
}
