package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// line is what the table says of one fault.
type line struct {
	Fault string
	// Said is what kubectl get presence said, and when; Failovers what the
	// Failovers came to.
	Said, Failovers []string
	// Offline counts clients that were declared so and were not.
	Offline int
	// Again is how long after the fault was mended everything was Ready.
	Again string
	// Kubernetes is what plain Kubernetes knew of the same fault, and when.
	Kubernetes []string
	Failed     bool
}

func (l *line) say(format string, args ...any) { l.Said = append(l.Said, fmt.Sprintf(format, args...)) }

func (l *line) kubernetes(format string, args ...any) {
	l.Kubernetes = append(l.Kubernetes, fmt.Sprintf(format, args...))
}

func (l line) cells() []string {
	again := l.Again
	if l.Failed {
		again += " **FAILED**"
	}
	return []string{
		l.Fault, strings.Join(l.Said, "; "), strings.Join(l.Failovers, "; "), fmt.Sprint(l.Offline), again, strings.Join(l.Kubernetes, "; "),
	}
}

func (l line) text() string { return "| " + strings.Join(l.cells(), " | ") + " |" }

// page is the documentation, from this package.
const page = "../../docs/e2e.md"

// report is the table of all faults.
type report struct{ lines []line }

const reportHead = `| fault | what ` + "`kubectl get presence`" + ` said, and when | Failovers | wrongly Offline | all Ready again, after it was mended | plain Kubernetes meanwhile |
|---|---|---|---|---|---|
`

// write puts the table beside what else was seen, and into the documentation
// where -docs asks for it.
func (r *report) write(t *testing.T) {
	t.Helper()
	if len(r.lines) == 0 {
		return
	}
	var b strings.Builder
	b.WriteString(reportHead)
	for _, l := range r.lines {
		b.WriteString(l.text() + "\n")
	}
	publish(t, "faults", b.String())
}

// publish writes a table into a file of its own and between its marks in docs/e2e.md.
func publish(t *testing.T, name, table string) {
	t.Helper()
	t.Log("\n" + table)
	if err := os.WriteFile(filepath.Join(*output, name+".md"), []byte(table), 0o644); err != nil {
		t.Error(err)
	}
	if !*docs {
		return
	}
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Error(err)
		return
	}
	begin, end := fmt.Sprintf("<!-- %s begin -->\n", name), fmt.Sprintf("<!-- %s end -->", name)
	before, rest, found := strings.Cut(string(raw), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Errorf("%s has no marks %q and %q", page, begin, end)
		return
	}
	if err := os.WriteFile(page, []byte(before+begin+"\n"+table+"\n"+end+after), 0o644); err != nil {
		t.Error(err)
	}
}
