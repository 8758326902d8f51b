package e2e

import (
	"fmt"
	"strings"
	"testing"
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

// servicesReport is the table of all faults of services.
type servicesReport struct{ lines []serviceLine }

const servicesHead = `| service | fault of one pod of three | clients on it | evidence, verdict after | 90 % of them have answers again after | connections ended: its own | of other pods | Failover | all well again, after it was mended | its tcpSocket readiness |
|---|---|---|---|---|---|---|---|---|---|
`

func (r *servicesReport) write(t *testing.T) {
	t.Helper()
	if len(r.lines) == 0 {
		return
	}
	var b strings.Builder
	b.WriteString(servicesHead)
	for i := range r.lines {
		b.WriteString(r.lines[i].text() + "\n")
	}
	publish(t, "services", b.String())
}
