package cost

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/sockets"
	"github.com/rollcall-dev/rollcall/internal/sockets/namespacetest"
)

const (
	// pods is how many servers a node has, and each connections; one in each of which
	// something comes every asksEvery.
	pods, connections = 100, 100
	asksEvery         = 10 * time.Second
	port              = 8080

	// serveEnv makes this test binary the servers of the namespaces in a directory: a
	// process may hold 20,000 files, and each connection has two ends.
	serveEnv = "ROLLCALL_TEST_SERVE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve listens in every namespace of a directory, and reads from all that connect,
// until its standard input ends.
func serve(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		ns, err := sockets.OpenNamespace(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		var l net.Listener
		err = sockets.Do(ns, func() (err error) {
			l, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
			return err
		})
		if err != nil {
			return err
		}
		ns.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					for b := make([]byte, 16); ; {
						if _, err := c.Read(b); err != nil {
							return
						}
					}
				}()
			}
		}()
	}
	fmt.Println("they listen")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// addressOf are a pod's, and its clients': nobody else's on this machine.
func addressOf(pod int) (server, clients netip.Addr) {
	return netip.AddrFrom4([4]byte{10, 201, byte(pod / 250), byte(pod%250 + 1)}), netip.AddrFrom4([4]byte{10, 202, byte(pod / 250), byte(pod%250 + 1)})
}

// populate makes pods with connections, on which something comes now and then until
// the benchmark ends, and returns the directory of their namespaces.
func populate(ctx context.Context, b *testing.B) string {
	dir := b.TempDir()
	var namespaces []*os.File
	for pod := range pods {
		server, clients := addressOf(pod)
		ns := namespacetest.New(b, server.String()+"/32", clients.String()+"/32")
		namespacetest.Bind(b, ns, dir, fmt.Sprintf("cni-%03d", pod))
		namespaces = append(namespaces, ns)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		b.Fatalf("the servers say %q: %v", line, err)
	}
	var all []*net.TCPConn
	for pod, ns := range namespaces {
		server, clients := addressOf(pod)
		for range connections {
			all = append(all, namespacetest.Dial(b, ns, clients.String(), netip.AddrPortFrom(server, port).String()))
		}
	}
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(ctx)
	b.Cleanup(func() {
		stop()
		<-ended
	})
	go func() {
		defer close(ended)
		const atOnce = 10
		tick := time.NewTicker(asksEvery * atOnce / time.Duration(len(all)))
		defer tick.Stop()
		for next := 0; ; next += atOnce {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for i := range atOnce {
				if _, err := all[(next+i)%len(all)].Write([]byte("?")); err != nil {
					b.Errorf("a client's connection has ended: %v", err)
					return
				}
			}
		}
	}()
	return dir
}
