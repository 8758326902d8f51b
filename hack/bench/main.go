//go:build linux

// Command bench measures what idle and beating MQTT clients cost a server:
// Rollcall, Mosquitto and a server made with the mochi-mqtt library, in turns,
// with one load generator. It prints a table and writes it as Markdown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

// plan is what a run does.
type plan struct {
	connections int
	rate        int // PINGREQs a second
	rounds      int
	beating     time.Duration // how long it pings
	settle      time.Duration // before memory is read
	warm        int           // clients that come and go before anything is measured
	inFlight    int           // CONNECTs that await their answer
	loops       int
	percent     int
	sessions    int // without connections, on one server: what they cost etcd, and nothing else
	mochi       string
	file        string
}

func main() {
	var p plan
	var serve, etcd, listen, only string
	flag.IntVar(&p.connections, "connections", 18000, "idle clients")
	flag.IntVar(&p.rate, "rate", 20000, "PINGREQs a second, of all clients together")
	flag.IntVar(&p.rounds, "rounds", 5, "how often every server is measured")
	flag.DurationVar(&p.beating, "beating", 5*time.Second, "how long clients ping")
	flag.DurationVar(&p.settle, "settle", 8*time.Second, "how long servers are left alone before their memory is read")
	flag.IntVar(&p.warm, "warm", 200, "clients that come, ping and go before memory is read for the first time")
	flag.IntVar(&p.inFlight, "in-flight", 256, "CONNECTs that await their answer at once")
	flag.IntVar(&p.loops, "loops", 0, "Rollcall's event loops; 0: its default")
	flag.IntVar(&p.percent, "gc-percent", 0, "Rollcall's; 0: its default")
	flag.IntVar(&p.sessions, "sessions", 0, "measure what so many `sessions` cost etcd, and nothing else")
	flag.StringVar(&p.file, "o", "", "Markdown `file` whose table is replaced")
	flag.StringVar(&p.mochi, "mochi", "bin/bench-mochi", "the `program` of hack/bench/mochi")
	flag.StringVar(&only, "only", "", "the servers to measure, comma separated; empty: all")
	flag.StringVar(&serve, "serve", "", "for itself: be this server")
	flag.StringVar(&listen, "listen", "", "for itself: where")
	flag.StringVar(&etcd, "etcd", "", "for itself: the store's endpoint")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch serve {
	case "rollcall", "rollcall-tls", "rollcall-udp", "rollcall-http":
		err = serveRollcall(ctx, p, strings.TrimPrefix(serve, "rollcall"), listen, etcd)
	case "":
		if p.sessions > 0 {
			err = p.measureMillion(ctx, p.sessions)
			break
		}
		err = p.run(ctx, only)
	default:
		err = fmt.Errorf("there is no server %q", serve)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures every server in every round.
func (p plan) run(ctx context.Context, only string) error {
	var measured []*series
	for _, s := range subjects {
		if only != "" && !strings.Contains(","+only+",", ","+s.name+",") {
			continue
		}
		if s.missing != nil {
			if how := s.missing(p); how != "" {
				fmt.Fprintf(os.Stderr, "%s is not measured: %s\n", s.name, how)
				continue
			}
		}
		measured = append(measured, &series{subject: s})
	}
	if len(measured) == 0 {
		return errors.New("there is no server to measure")
	}
	for round := range p.rounds {
		for i := range measured {
			s := measured[(i+round)%len(measured)] // each is first, and last, in turn
			f, err := p.measure(ctx, s.subject)
			if err != nil {
				return fmt.Errorf("%s: %w", s.subject.name, err)
			}
			s.figures = append(s.figures, f)
			fmt.Fprintf(os.Stderr, "round %d of %d  %-10s %s\n", round+1, p.rounds, s.subject.name, f)
		}
	}
	fmt.Print(text(measured))
	if p.file == "" {
		return nil
	}
	return replace(p.file, "bench-server", p.markdown(measured))
}

// measure starts a server, measures it, and ends it.
func (p plan) measure(ctx context.Context, s subject) (f figures, err error) {
	server, err := s.start(ctx, p)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	if s.udp {
		return p.measureUDP(ctx, server)
	}
	if err := s.warm(server.address, p.warm); err != nil {
		return f, err
	}
	if err := rest(ctx, p.settle); err != nil {
		return f, err
	}
	before, err := resident(server.pid)
	if err != nil {
		return f, err
	}
	l, err := s.load(server.address)
	if err != nil {
		return f, err
	}
	defer l.close()
	cpu := processorTime(server.pid)
	took, err := l.connect(p.connections, p.inFlight)
	if err != nil {
		return f, err
	}
	f.connects = float64(p.connections) / took.Seconds()
	f.connectCPU = (processorTime(server.pid) - cpu) / time.Duration(p.connections)
	if err := rest(ctx, p.settle); err != nil {
		return f, err
	}
	after, err := resident(server.pid)
	if err != nil {
		return f, err
	}
	f.memory = float64(after-before) / float64(p.connections)
	if _, err := l.ping(p.rate, time.Second); err != nil { // warm
		return f, err
	}
	cpu = processorTime(server.pid)
	answers, err := l.ping(p.rate, p.beating)
	if err != nil {
		return f, err
	}
	f.pingCPU = float64(processorTime(server.pid)-cpu) / float64(len(answers))
	f.answered = float64(len(answers)) / p.beating.Seconds()
	f.p50, f.p99, f.p999 = quantile(answers, 0.5), quantile(answers, 0.99), quantile(answers, 0.999)
	return f, nil
}

// warm has a few clients come, ping and go, so that what a server needs once is
// not counted as its clients'.
func (s subject) warm(address string, n int) error {
	if n == 0 {
		return nil
	}
	l, err := s.load(address)
	if err != nil {
		return err
	}
	defer l.close()
	if _, err := l.connect(n, 50); err != nil {
		return err
	}
	_, err = l.ping(1000, 200*time.Millisecond)
	return err
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
