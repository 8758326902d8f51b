package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

// serviceLine is what the table says of one fault of a service.
type serviceLine struct {
	Service, Fault string
	// On is how many clients the pod had.
	On int
	// Detected and Decided are from the fault to the Failover's own times.
	Detected, Decided string
	// Answered is from the fault until 90 % of its clients had answers again; or why nobody was moved.
	Answered string
	// Ended connections at the clients: of the pod that hung; Wrongly, of others;
	// Unknown, of whichever pod had not answered yet.
	Ended, Wrongly, Unknown int
	Failovers               []string
	Again                   string
	Readiness               string
	Failed                  bool
}

func (l *serviceLine) text() string {
	verdict := "-"
	if l.Decided != "" {
		verdict = l.Detected + ", " + l.Decided
	}
	ended := fmt.Sprint(l.Ended)
	if l.Unknown > 0 {
		ended += fmt.Sprintf(" (and %d that led nobody knows where)", l.Unknown)
	}
	again := l.Again
	if l.Failed {
		again += " **FAILED**"
	}
	return "| " + strings.Join([]string{
		l.Service, l.Fault, fmt.Sprint(l.On), verdict, l.Answered, ended, fmt.Sprint(l.Wrongly), strings.Join(l.Failovers, "; "), again, l.Readiness,
	}, " | ") + " |"
}

// servicesReport is what the tables say, to which cases of several services add.
type servicesReport struct {
	mu    sync.Mutex
	lines []serviceLine
	// plain is what plain Kubernetes came to, by fault and the name of the kind of probe.
	plain map[string]map[string]string
	// tolls of what was flooded, by who looked after it.
	tolls []tollLine
}

type tollLine struct {
	who string
	toll
}

func (r *servicesReport) add(l serviceLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, l)
	// Those of one service stay as they came.
	slices.SortStableFunc(r.lines, func(a, b serviceLine) int {
		return cmp.Compare(slices.Index(speeches, service.Speech(a.Service)), slices.Index(speeches, service.Speech(b.Service)))
	})
}

func (r *servicesReport) addPlain(fault string, kind probeKind, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plain == nil {
		r.plain = map[string]map[string]string{}
	}
	if r.plain[fault] == nil {
		r.plain[fault] = map[string]string{}
	}
	r.plain[fault][kind.name] = text
}

func (r *servicesReport) addToll(who string, cost toll) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tolls = append(r.tolls, tollLine{who, cost})
}

const servicesHead = `| service | fault of one pod of three | clients on it | evidence, verdict after | 90 % of them have answers again after | connections ended: its own | of other pods | Failover | all well again, after it was mended | its tcpSocket readiness |
|---|---|---|---|---|---|---|---|---|---|
`

// write publishes the tables to which anything was added.
func (r *servicesReport) write(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) > 0 {
		var b strings.Builder
		b.WriteString(servicesHead)
		for i := range r.lines {
			b.WriteString(r.lines[i].text() + "\n")
		}
		publish(t, "services", b.String())
	}
	if len(r.plain) > 0 {
		publish(t, "kubernetes", r.beside())
	}
	if len(r.tolls) > 0 {
		publish(t, "floods", r.floods())
	}
}

// beside is the table of the same faults with Rollcall and with plain Kubernetes.
func (r *servicesReport) beside() string {
	rows := [][]string{{"HTTP: one pod of three", "Rollcall"}}
	for _, k := range probeKinds {
		rows[0] = append(rows[0], k.what)
	}
	for _, f := range serviceFaults {
		if r.plain[f.name] == nil {
			continue
		}
		cells := []string{f.name, r.moved(f.name)}
		for _, k := range probeKinds {
			cells = append(cells, cmp.Or(r.plain[f.name][k.name], "-"))
		}
		rows = append(rows, cells)
	}
	return table(rows)
}

// moved is what Rollcall made of a fault of the service of HTTP.
func (r *servicesReport) moved(fault string) string {
	for i := range r.lines {
		if l := &r.lines[i]; l.Service == string(service.HTTP) && l.Fault == fault && l.Answered != "" {
			return "verdict after " + l.Decided + "; answers after " + l.Answered
		}
	}
	return "-"
}

// floods is the table of what a flood has cost.
func (r *servicesReport) floods() string {
	rows := [][]string{{"all three overloaded by load", "restarts", "connections ended", "questions that failed", "answers"}}
	for _, l := range r.tolls {
		rows = append(rows, []string{l.who, fmt.Sprint(l.Restarts), fmt.Sprint(l.Ended), fmt.Sprint(l.Failed), fmt.Sprint(l.Answered)})
	}
	return table(rows)
}

// table is one of Markdown, whose first row is its head.
func table(rows [][]string) string {
	var b strings.Builder
	for i, cells := range rows {
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|" + strings.Repeat("---|", len(cells)) + "\n")
		}
	}
	return b.String()
}
