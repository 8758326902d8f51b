package crowd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const beServer = "ROLLCALL_TEST_BE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(beServer) != "" {
		serveUntilEOF()
		return
	}
	goleak.VerifyTestMain(m)
}

// serveUntilEOF answers every CONNECT and PINGREQ that comes to a port which it
// prints, until its standard input ends. It is a process of its own, so that
// what it costs is not counted as the crowd's.
func serveUntilEOF() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func answer(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 512)
	if _, err := c.Read(buf); err != nil { // a CONNECT comes in one or two writes
		return
	}
	if _, err := c.Write([]byte{0x20, 3, 0, 0, 0}); err != nil {
		return
	}
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if n >= 2 && buf[n-2] == 0xC0 {
			if _, err := c.Write([]byte{0xD0, 0}); err != nil {
				return
			}
		}
	}
}

// otherServer starts serveUntilEOF and returns its address.
func otherServer(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), beServer+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// BenchmarkCrowd measures 2,000 connected clients with an interval of 5 s:
// memory of the whole process, memory for each client beyond that of an empty
// one, and CPU (user and system) while they do nothing but beat for 20 s.
func BenchmarkCrowd(b *testing.B) {
	const count = 2000
	for b.Loop() {
		before := resident(b)
		c, err := New(Config{Count: count, Servers: []string{otherServer(b)}, Presence: "im/android", StartRate: 2000})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
			n := 0
			for _, k := range c.Snapshot().Connected {
				n += k
			}
			if n == count {
				break
			}
		}
		used, begun := cpu(b), time.Now()
		<-time.After(20 * time.Second)
		share := (cpu(b) - used).Seconds() / time.Since(begun).Seconds()
		after := resident(b)
		goroutines := runtime.NumGoroutine()
		stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(after)/1e6, "MB-RSS")
		b.ReportMetric(float64(after-before)/count, "B/client")
		b.ReportMetric(100*share, "%core")
		b.ReportMetric(float64(goroutines)/count, "goroutines/client")
	}
}

func resident(b *testing.B) int64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
