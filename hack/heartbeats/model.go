package main

import (
	"fmt"
	"strings"
	"time"
)

// What a beat puts on the wire, in bytes: a PINGREQ, the PINGRESP that carries
// the acknowledgement of it, and the acknowledgement of that.
const (
	// segment is an IPv4 and a TCP header with timestamps (RFC 791, 9293, 7323).
	segment = 20 + 32
	ping    = 2
	// record is what TLS 1.3 adds to each record (RFC 8446, section 5): header,
	// type and tag.
	record = 5 + 1 + 16
	// The keepalive probe of a kernel, and its answer, are bare segments.
	probe = segment

	plainBeat = 3*segment + 2*ping
	tlsBeat   = plainBeat + 2*record
)

// grace is the Presence's, as in the examples of the design; the lease is 1.5
// intervals and the grace.
const grace = 5 * time.Second

// way is one way to beat.
type way struct {
	name     string
	setting  string // in words of Config, or of the Presence
	interval time.Duration
	// misses is how many intervals pass without a beat before a client is gone,
	// in halves: 3 is Rollcall's 1.5.
	halves int
	// answer is how long an answer is waited for, tries how often.
	answer time.Duration
	tries  int
	bytes  int // a beat
	mark   bool
	// kernel: nobody but the kernel answers.
	kernel bool
}

const day = 24 * time.Hour

func (w way) wakeUps() float64     { return day.Seconds() / w.interval.Seconds() }
func (w way) bytesADay() float64   { return w.wakeUps() * float64(w.bytes) }
func (w way) gone() time.Duration  { return w.interval*time.Duration(w.halves)/2 + grace }
func (w way) moves() time.Duration { return w.interval + time.Duration(w.tries)*w.answer }

func ways() []way {
	second := time.Second
	sdk := func(name, setting string, interval, answer time.Duration, tries int) way {
		return way{name: name, setting: setting, interval: interval, halves: 3, answer: answer, tries: tries, bytes: plainBeat, mark: true}
	}
	return []way{
		sdk("quick", "`Interval: 1s, AckTimeout: 1s`", second, second, 2),
		{"three missed check-ins", "`Interval: 1s, AckTimeout: 1s, Misses: 3`, `missesUntilOffline: 2`", second, 6, second, 3, plainBeat, false, false},
		sdk("the default", "nothing", 10*second, second, 2),
		sdk("fixed, as it is often told", "`Interval: 30s, AckTimeout: 15s, MinAckTimeout: 15s, Misses: 1`", 30*second, 15*second, 1),
		sdk("Mars's shortest", "`Heartbeat: NewMars`, in the foreground", 210*second, 8*second, 1),
		sdk("background", "`BackgroundInterval: 5m`", 5*time.Minute, 8*second, 2),
		sdk("Mars's longest", "`Heartbeat: NewMars`", 580*second, 8*second, 1),
		sdk("a NAT that survives 30 min", "`Heartbeat: NewBisect`, `Max: 29m40s`", 1780*second, 8*second, 4),
		{"TCP keepalive alone, as Linux has it", "none of ours: 7200 s, 9 probes of 75 s", 7200 * second, 2, 75 * second, 9, 2 * probe, false, true},
	}
}

// table is Markdown.
func table() string {
	var b strings.Builder
	b.WriteString("| way | settings | wake-ups a day | bytes a day | with TLS | others see it gone within | a hung server is left within |\n|---|---|---|---|---|---|---|\n")
	for _, w := range ways() {
		tls, gone, moves := bytes(w.bytesADay()/plainBeat*tlsBeat), short(w.gone()), short(w.moves())
		if w.kernel { // its probes are not encrypted, and a kernel answers for a program that hangs
			tls, gone, moves = bytes(w.bytesADay()), short(w.interval+w.answer*time.Duration(w.tries)), "never"
		}
		fmt.Fprintf(&b, "| %s | %s | %.0f | %s | %s | %s | %s |\n", w.name, w.setting, w.wakeUps(), bytes(w.bytesADay()), tls, gone, moves)
	}
	return b.String()
}

func bytes(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.0f kB", n/1e3)
	}
	return fmt.Sprintf("%.0f B", n)
}

func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%.1f min", d.Minutes())
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}
