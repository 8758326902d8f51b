package history

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server"
	"github.com/rollcall-dev/rollcall/test/process"
)

// childVariable, when set to "ENDPOINT NAME LIFE", makes this binary a heartbeat
// server, and when set to "leader ENDPOINT NAME" a candidate, so that a test can stop
// a whole process.
const childVariable = "ROLLCALL_HISTORY_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childVariable); what != "" {
		child := serve
		if strings.HasPrefix(what, leaderChild) {
			child = govern
		}
		if err := child(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type presences struct{}

// The lease of a client that beats every 2 s is 3.5 s.
func (presences) Lookup(namespace, name string) (server.Presence, bool) {
	return server.Presence{
		Kind: server.Clients, MinInterval: time.Second, MaxInterval: 10 * time.Second, Grace: 500 * time.Millisecond,
	}, namespace+"/"+name == presence
}

const (
	namespace = "rollcall-system"
	presence  = "im/phone"
)

type everybody struct{}

func (everybody) Authenticate(context.Context, server.Credentials) (server.Principal, error) {
	return server.Principal{Name: "anyone", Rights: server.Connect}, nil
}

// serve is a server until its parent is gone; it prints its address, and that of
// its metrics.
func serve(what string) error {
	fields := strings.Fields(what)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ROLLCALL_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("life", fields[2])
	}
	registry := prometheus.NewRegistry()
	st, err := store.Open(ctx, store.Config{Endpoints: fields[:1], Logger: log, Registerer: registry})
	if err != nil {
		return err
	}
	defer st.Close()
	s, err := server.New(server.Config{
		Name: fields[1], Namespace: namespace, Incarnation: fields[2], Listen: "127.0.0.1:0", Capacity: 1000,
		Store: st, Presences: presences{}, Authenticator: everybody{}, Logger: log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), ReadHeaderTimeout: time.Second}
	go func() { _ = web.Serve(l) }()
	defer web.Close()
	fmt.Println(s.Addr(), l.Addr())
	return s.Run(ctx)
}

// life is one life of one server.
type life struct {
	number  int
	process *process.Process
	addr    string
	metrics string
	in      io.WriteCloser
}

// start starts a server that reaches etcd at endpoint.
func (w *world) start(endpoint, name string) (*life, error) {
	l := &life{number: w.record.born(name)}
	incarnation := w.record.incarnation(l.number)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", childVariable, endpoint, name, incarnation))
	cmd.Stderr = os.Stderr
	var err error
	if l.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd.Stdout = write
	l.process, err = w.spawner.Start(cmd)
	write.Close()
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s says nothing: %w", incarnation, err)
	}
	if _, err := fmt.Sscan(line, &l.addr, &l.metrics); err != nil {
		return nil, fmt.Errorf("%s says %q: %w", incarnation, line, err)
	}
	return l, nil
}

// metric reads one of a server's metrics, by its whole name with labels.
func (l *life) metric(name string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("there is no metric %s", name), lines.Err())
}
