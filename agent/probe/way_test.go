package probe

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnescape(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{`PING\r\n`, "PING\r\n", ""},
		{`\x00\xffa\t\\`, "\x00\xffa\t\\", ""},
		{`plain`, "plain", ""},
		{`a\`, "", "ends with a backslash"},
		{`\q`, "", `\q is not known`},
		{`\x1`, "", "two hexadecimal digits"},
		{`\xzz`, "", "two hexadecimal digits"},
	} {
		got, err := Unescape(tt.in)
		if tt.err == "" && (err != nil || string(got) != tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %q, %v; want an error with %q", tt.in, got, err, tt.err)
		}
	}
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{`PING\r\n`, `\x00`, `\`, `\x`, `\\\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if b, err := Unescape(s); err == nil && len(b) > len(s) {
			t.Errorf("%q became longer: %q", s, b)
		}
	})
}

func TestParseCodes(t *testing.T) {
	codes, err := ParseCodes([]string{"200-399", "418"})
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]bool{199: false, 200: true, 399: true, 400: false, 418: true} {
		if codes.hold(code) != want {
			t.Errorf("%d is among %v: %v", code, codes, !want)
		}
	}
	if got := codes.String(); got != "200 to 399, 418" {
		t.Errorf("they read %q", got)
	}
	for _, bad := range []string{"", "abc", "300-200"} {
		if _, err := ParseCodes([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// asker opens a way on a connection whose other end serve has, until the test ends.
func asker(t *testing.T, way Way, serve func(net.Conn)) Asker {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		serve(theirs)
	}()
	t.Cleanup(func() {
		ours.Close()
		<-done
	})
	ask, err := way.Open(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	return ask
}

// What a server says takes no memory of its observers without bound.
func TestAnHTTPAnswerIsReadToABound(t *testing.T) {
	const much = 8 << 20 // many times the bound: so much is sent of what has no end
	for _, c := range []struct{ name, begins, goesOn, want string }{
		{"lines of a header without end", "HTTP/1.1 200 OK\r\n", "X: 0123456789\r\n", "a header without end"},
		{"a line without end", "HTTP/1.1 200 OK\r\nX: ", "0123456789", "a header without end"},
		{"a body without end", "HTTP/1.1 200 OK\r\n\r\n", "0123456789", errLast.Error()},
		{"a body without end, in small chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", errLast.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask := asker(t, &HTTP{Address: "web", Path: "/", Codes: Codes{{200, 200}}}, func(conn net.Conn) {
				go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with the connection
				if _, err := io.WriteString(conn, c.begins); err != nil {
					return
				}
				block := []byte(strings.Repeat(c.goesOn, 1000))
				for sent := 0; sent < much; {
					n, err := conn.Write(block)
					if sent += n; err != nil {
						return
					}
				}
			})
			if err := ask(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it is answered with %v, want %q", err, c.want)
			}
		})
	}
}

func TestAnHTTPAnswerOfAnyLengthMayFollowAnother(t *testing.T) {
	ask := asker(t, &HTTP{Address: "web", Path: "/", Codes: Codes{{200, 200}}}, func(conn net.Conn) {
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		body := strings.Repeat("a", maxAnswer-1)
		for {
			if _, err := fmt.Fprintf(conn, "HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%s", http.StatusOK, len(body), body); err != nil {
				return
			}
		}
	})
	for i := range 5 {
		if err := ask(t.Context()); err != nil {
			t.Fatalf("question %d: %v", i, err)
		}
	}
}

// A server that speaks first has every question answered by what it said before,
// unless that is put aside: then nobody would see that it is slow, or in trouble.
func TestWhatATCPServerSaidBeforeIsNoAnswer(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	web.Close()
	trusting := web.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trusting.ServerName = "example.com" // among the certificate's names
	for name, config := range map[string]*tls.Config{"in plain": nil, "over TLS": trusting} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const slow = 3 * time.Second
				ask := asker(t, &TCP{Send: []byte("NOOP\r\n"), Expect: []byte("+OK"), TLS: config}, func(conn net.Conn) {
					if config != nil {
						conn = tls.Server(conn, web.TLS)
					}
					said := make(chan string, 10)
					defer close(said)
					go func() { // apart from reading, as with a socket, which holds some of it
						for s := range said {
							_, _ = io.WriteString(conn, s) // it ends with the connection
						}
					}()
					said <- "+OK ready\r\n"
					for lines := bufio.NewScanner(conn); lines.Scan(); {
						time.Sleep(slow)
						said <- "+OK\r\n"
					}
				})
				if err := ask(t.Context()); err != nil {
					t.Fatalf("its greeting: %v", err)
				}
				for range 3 {
					time.Sleep(2 * slow)
					asked := time.Now()
					if err := ask(t.Context()); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(asked); took < slow {
						t.Errorf("it is answered after %v, and the server answers after %v", took, slow)
					}
				}
			})
		})
	}
}

func TestATCPServerThatSpeaksAllTheTimeIsAskedOnAnotherConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask := asker(t, &TCP{Send: []byte("NOOP\r\n"), Expect: []byte("+OK")}, func(conn net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			for block := strings.Repeat("+OK\r\n", 100); ; {
				if _, err := io.WriteString(conn, block); err != nil {
					return
				}
			}
		})
		if err := ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := ask(t.Context()); !errors.Is(err, errLast) {
			t.Errorf("asked again: %v, want %v", err, errLast)
		}
	})
}
