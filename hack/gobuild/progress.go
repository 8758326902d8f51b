package gobuild

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// quiet is how long a build takes before anything is said about it.
const quiet = 2 * time.Second

// progress prints how far a build is: on a terminal every second in one line,
// elsewhere a line every 15 s.
type progress struct {
	what     string
	start    time.Time
	terminal bool
	done     chan struct{}
	finished sync.WaitGroup

	mu         sync.Mutex // guards the rest
	packages   int
	downloaded int
	last       string
}

func startProgress(what string) *progress {
	info, err := os.Stderr.Stat()
	p := &progress{
		what: what, start: time.Now(), done: make(chan struct{}),
		terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
	period := 15 * time.Second
	if p.terminal {
		period = time.Second
	}
	p.finished.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-p.done:
				return
			case <-tick.C:
				if time.Since(p.start) > quiet {
					p.print("building", false)
				}
			}
		}
	})
	return p
}

func (p *progress) downloading() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.downloaded++
}

func (p *progress) compiling(pkg string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.packages++
	p.last = pkg
}

// stop says how long it took, where that was worth a word.
func (p *progress) stop(built bool) {
	close(p.done)
	p.finished.Wait()
	switch {
	case !built:
		p.print("could not build", true)
	case time.Since(p.start) > quiet:
		p.print("built", true)
	}
}

func (p *progress) print(state string, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf("%s %s: %d s, %d packages compiled", state, p.what, int(time.Since(p.start).Seconds()), p.packages)
	if p.packages == 0 && p.downloaded > 0 {
		line += fmt.Sprintf(", %d modules downloaded", p.downloaded)
	}
	switch {
	case !p.terminal:
		fmt.Fprintln(os.Stderr, line)
	case last:
		fmt.Fprintf(os.Stderr, "\r\033[K%s\n", line)
	default:
		fmt.Fprintf(os.Stderr, "\r\033[K%s (%s)", line, p.last)
	}
}
