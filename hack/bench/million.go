//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

const (
	// burst is how many come at once, and go at once: as many as other measurements connect.
	burst = 18_000
	// churn is the share of all sessions that come or go in a minute.
	churn = 0.05
	// visitors is how many requests are under way at once.
	visitors = 16
	// calm is how long etcd must not have written for everything to be written.
	calm = 2 * time.Second
)

// million is what so many sessions cost etcd. They come by HTTP, which needs no
// connection that stays: a process here has not files enough for theirs.
type million struct {
	plan
	server *running
	etcd   *controlplane.Etcd
	client *http.Client
	came   int // ids that have come so far
	gone   int // of these, the first so many have gone
	rows   [][2]string
}

// measureMillion fills one server with n sessions, and tells what etcd has to do then.
func (p plan) measureMillion(ctx context.Context, n int) (err error) {
	etcd, err := controlplane.StartEtcd(ctx, controlplane.EtcdConfig{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, etcd.Stop()) }()
	address, _, err := freeAddress()
	if err != nil {
		return err
	}
	cmd, err := itself("-serve", "rollcall-http", "-listen", address, "-etcd", etcd.Endpoint(), "-sessions", strconv.Itoa(n))
	if err != nil {
		return err
	}
	server, err := start(ctx, cmd, address, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	m := &million{plan: p, server: server, etcd: etcd, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: visitors}, Timeout: time.Minute,
	}}
	for _, part := range []func(context.Context, int) error{m.fill, m.atRest, m.bursts, m.churns, m.learns} {
		if err := part(ctx, n); err != nil {
			return err
		}
	}
	table := m.markdown(n)
	fmt.Print(table)
	if p.file == "" {
		return nil
	}
	return replace(p.file, "bench-million", table)
}

// request carries out one beat, or one goodbye; a server that is busy is asked again.
func (m *million) request(ctx context.Context, method string, id int) error {
	for {
		r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s/v1/beats/bench/clients/client-%07d?interval=1h", m.server.address, id), http.NoBody)
		if err != nil {
			return err
		}
		answer, err := m.client.Do(r)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, answer.Body) // so that the connection is used again
		answer.Body.Close()
		switch answer.StatusCode {
		case http.StatusOK, http.StatusNoContent:
			return nil
		case http.StatusServiceUnavailable:
			if err := rest(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s of client %d: %s", method, id, answer.Status)
		}
	}
}

// all carries out n requests from an id on.
func (m *million) all(ctx context.Context, method string, from, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(visitors)
	var done atomic.Int64
	for i := range n {
		group.Go(func() error {
			if k := done.Add(1); k%100_000 == 0 {
				fmt.Fprintf(os.Stderr, "%d of %d\n", k, n)
			}
			return m.request(ctx, method, from+i)
		})
	}
	return group.Wait()
}

func (m *million) come(ctx context.Context, n int) error {
	m.came += n
	return m.all(ctx, http.MethodPut, m.came-n, n)
}

func (m *million) leave(ctx context.Context, n int) error {
	m.gone += n
	return m.all(ctx, http.MethodDelete, m.gone-n, n)
}

func (m *million) row(name, form string, values ...any) {
	m.rows = append(m.rows, [2]string{name, fmt.Sprintf(form, values...)})
	fmt.Fprintf(os.Stderr, "%s: %s\n", name, fmt.Sprintf(form, values...))
}

// look is what etcd says of itself.
type look struct{ revision, puts, size, resident float64 }

func (m *million) look(ctx context.Context) (l look, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.etcd.Endpoint()+"/metrics", http.NoBody)
	if err != nil {
		return l, err
	}
	answer, err := m.client.Do(r)
	if err != nil {
		return l, err
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		into := map[string]*float64{
			"etcd_debugging_mvcc_current_revision": &l.revision, "etcd_mvcc_put_total": &l.puts,
			"etcd_mvcc_db_total_size_in_bytes": &l.size, "process_resident_memory_bytes": &l.resident,
		}[name]
		if into != nil {
			if *into, err = strconv.ParseFloat(value, 64); err != nil {
				return l, err
			}
		}
	}
	if l.revision == 0 {
		return l, errors.New("etcd does not tell its revision")
	}
	return l, nil
}

// written waits until everything is written, and tells since when.
func (m *million) written(ctx context.Context) (look, time.Time, error) {
	last, since := look{}, time.Now()
	for {
		l, err := m.look(ctx)
		if err != nil {
			return l, since, err
		}
		if l.revision != last.revision {
			last, since = l, time.Now()
		}
		if time.Since(since) >= calm {
			return l, since, nil
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return l, since, err
		}
	}
}

func (m *million) fill(ctx context.Context, n int) error {
	start := time.Now()
	if err := m.come(ctx, n); err != nil {
		return err
	}
	l, since, err := m.written(ctx)
	if err != nil {
		return err
	}
	memory, err := resident(m.server.pid)
	if err != nil {
		return err
	}
	m.row("until all had come and were written", "%.0f s, %.0f sessions in a write", since.Sub(start).Seconds(), l.puts/l.revision)
	m.row("etcd's database and memory", "%.0f MB, %.0f MB", l.size/1e6, l.resident/1e6)
	m.row("the server's memory", "%.0f MB, %.0f B a session", float64(memory)/1e6, float64(memory)/float64(n))
	return nil
}

func (m *million) atRest(ctx context.Context, _ int) error {
	const while = 30 * time.Second
	if err := rest(ctx, 2*m.settle); err != nil { // it says, too, that it is no longer busy
		return err
	}
	before, err := m.look(ctx)
	if err != nil {
		return err
	}
	cpu := processorTime(m.server.pid)
	if err := rest(ctx, while); err != nil {
		return err
	}
	after, err := m.look(ctx)
	if err != nil {
		return err
	}
	m.row("writes at rest", "%.0f in %v", after.revision-before.revision, while)
	m.row("the server's CPU at rest", "%.2f %% of a core", 100*(processorTime(m.server.pid)-cpu).Seconds()/while.Seconds())
	return nil
}

func (m *million) bursts(ctx context.Context, _ int) error {
	for _, b := range []struct {
		what string
		do   func(context.Context, int) error
	}{{"come", m.come}, {"go", m.leave}} {
		before, err := m.look(ctx)
		if err != nil {
			return err
		}
		start := time.Now()
		if err := b.do(ctx, burst); err != nil {
			return err
		}
		asked := time.Since(start)
		after, since, err := m.written(ctx)
		if err != nil {
			return err
		}
		m.row(fmt.Sprintf("%d %s within %.1f s", burst, b.what, asked.Seconds()), "written %.1f s after the first, in %.0f writes of %.0f records",
			since.Sub(start).Seconds(), after.revision-before.revision, (after.puts-before.puts)/(after.revision-before.revision))
	}
	return nil
}

func (m *million) churns(ctx context.Context, n int) error {
	const while = time.Minute
	before, err := m.look(ctx)
	if err != nil {
		return err
	}
	cpu := processorTime(m.server.pid)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	some := int(churn * float64(n) / while.Seconds() / 2)
	start := time.Now()
	for range int(while.Seconds()) {
		if err := errors.Join(m.come(ctx, some), m.leave(ctx, some)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	took := time.Since(start).Seconds()
	after, err := m.look(ctx)
	if err != nil {
		return err
	}
	m.row(fmt.Sprintf("%.0f %% come or go in a minute: etcd", 100*churn), "%.1f writes a second of %.0f records, database %.0f MB, memory %.0f MB",
		(after.revision-before.revision)/took, (after.puts-before.puts)/max(after.revision-before.revision, 1), after.size/1e6, after.resident/1e6)
	m.row("and the server's CPU", "%.1f %% of a core", 100*(processorTime(m.server.pid)-cpu).Seconds()/took)
	return nil
}

// learns is how long a new controller takes to know what it judges by.
func (m *million) learns(ctx context.Context, _ int) error {
	ctx, cancel := context.WithCancel(ctx)
	start := time.Now()
	s, err := store.Open(ctx, store.Config{Endpoints: []string{m.etcd.Endpoint()}})
	if err != nil {
		cancel()
		return err
	}
	book := evidence.New(time.Now)
	ended := make(chan error, 1)
	go func() { ended <- book.Watch(ctx, s, "bench") }()
	for book.Filled().IsZero() {
		if err = rest(ctx, time.Millisecond); err != nil {
			break
		}
	}
	m.row("until a new controller knows what it judges by", "%.2f s (it acts 2 s later: it waits for who has just come)", time.Since(start).Seconds())
	cancel()
	return errors.Join(err, <-ended, s.Close())
}

func (m *million) markdown(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d sessions on one server, with one etcd beside it; %s, %s; load average at the end %s.\n\n| | |\n|---|---|\n",
		n, machine(), time.Now().Format(time.DateOnly), loadAverage())
	for _, r := range m.rows {
		fmt.Fprintf(&b, "| %s | %s |\n", r[0], r[1])
	}
	return b.String()
}
