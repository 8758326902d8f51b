package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// What the timeline follows.
const (
	presences = "presence"
	failovers = "failover"
	nodeReady = "node"
	podReady  = "pod"
)

// lookEvery is between two looks at the tables, askWithin the longest that one takes.
const (
	lookEvery = 150 * time.Millisecond
	askWithin = 2 * time.Second
)

// subject is one line of a table that kubectl prints.
type subject struct{ kind, name string }

// row is what the line says, by column, the age left out.
type row map[string]string

// change is a line that is new, or says something new; without a row it is gone.
type change struct {
	at time.Time
	subject
	row
}

// timeline follows what `kubectl get presence` and `kubectl get failovers` print,
// and beside it what plain Kubernetes knows: whether nodes and servers are ready.
type timeline struct {
	w *world

	mu      sync.Mutex
	columns map[string][]string // by kind, in order
	now     map[subject]row
	changes []change
	// silent since when the API server has not answered; zero: it does.
	silent time.Time
}

func follow(ctx context.Context, w *world) *timeline {
	l := &timeline{w: w, columns: map[string][]string{nodeReady: {"Ready"}, podReady: {"Node", "Ready", "Restarts"}}, now: map[subject]row{}}
	go func() {
		for pause(ctx, lookEvery) == nil {
			l.look(ctx)
		}
	}()
	return l
}

func (l *timeline) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	seen := map[subject]row{}
	for _, read := range []func(context.Context, map[subject]row) error{
		func(ctx context.Context, seen map[subject]row) error {
			return l.table(ctx, presences, "presences", seen)
		},
		func(ctx context.Context, seen map[subject]row) error {
			return l.table(ctx, failovers, "failovers", seen)
		},
		l.nodes, l.servers,
	} {
		if read(ctx, seen) != nil {
			l.mu.Lock()
			if l.silent.IsZero() {
				l.silent = time.Now()
			}
			l.mu.Unlock()
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := time.Now()
	l.silent = time.Time{}
	for s, r := range seen {
		if !maps.Equal(l.now[s], r) {
			l.changes = append(l.changes, change{at: at, subject: s, row: r})
		}
	}
	for s := range l.now {
		if _, still := seen[s]; !still {
			l.changes = append(l.changes, change{at: at, subject: s})
		}
	}
	l.now = seen
}

// table asks for objects as kubectl does, as lines that the API server has made.
func (l *timeline) table(ctx context.Context, kind, resource string, seen map[subject]row) error {
	raw, err := l.w.kube.CoreV1().RESTClient().Get().AbsPath("/apis/rollcall.dev/v1alpha1/"+resource).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
	if err != nil {
		return err
	}
	var t metav1.Table
	if err := json.Unmarshal(raw, &t); err != nil {
		return err
	}
	var columns []string
	for _, c := range t.ColumnDefinitions {
		if c.Priority == 0 && c.Name != "Name" && c.Name != "Age" {
			columns = append(columns, c.Name)
		}
	}
	l.mu.Lock()
	l.columns[kind] = columns
	l.mu.Unlock()
	for _, line := range t.Rows {
		name, err := objectName(line.Object)
		if err != nil {
			return err
		}
		r := row{}
		for i, c := range t.ColumnDefinitions {
			if slices.Contains(columns, c.Name) && i < len(line.Cells) && line.Cells[i] != nil {
				r[c.Name] = fmt.Sprint(line.Cells[i])
			}
		}
		seen[subject{kind, name}] = r
	}
	return nil
}

func objectName(o runtime.RawExtension) (string, error) {
	var m metav1.PartialObjectMetadata
	if err := json.Unmarshal(o.Raw, &m); err != nil {
		return "", err
	}
	return m.Name, nil
}

func (l *timeline) nodes(ctx context.Context, seen map[subject]row) error {
	list, err := l.w.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range list.Items {
		ready := "Unknown"
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				ready = string(c.Status)
			}
		}
		seen[subject{nodeReady, n.Name}] = row{"Ready": ready}
	}
	return nil
}

func (l *timeline) servers(ctx context.Context, seen map[subject]row) error {
	pods, err := l.w.part(ctx, "server")
	if err != nil {
		return err
	}
	for i := range pods {
		seen[subject{podReady, pods[i].Name}] = row{
			"Node": pods[i].Spec.NodeName, "Ready": fmt.Sprint(ready(&pods[i])), "Restarts": fmt.Sprint(restarts(&pods[i])),
		}
	}
	return nil
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

func restarts(p *corev1.Pod) int {
	n := 0
	for _, c := range p.Status.ContainerStatuses {
		n += int(c.RestartCount)
	}
	return n
}

// says is the line of an object as it is now; nil: there is none.
func (l *timeline) says(kind, name string) row {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now[subject{kind, name}]
}

// away is since when the API server has not answered; zero: it does.
func (l *timeline) away() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent
}

// since are the changes from a time on.
func (l *timeline) since(t time.Time) []change {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.changes)
	for i > 0 && !l.changes[i-1].at.Before(t) {
		i--
	}
	return slices.Clone(l.changes[i:])
}

// first is when a line first said so, from a time on; zero: it has not.
func (l *timeline) first(from time.Time, kind, name string, so func(row) bool) time.Time {
	for _, c := range l.since(from) {
		if c.kind == kind && c.name == name && c.row != nil && so(c.row) {
			return c.at
		}
	}
	return time.Time{}
}

// text prints changes as kubectl would, with the time since from before each.
func (l *timeline) text(from time.Time) string {
	changes := l.since(from)
	slices.SortStableFunc(changes, func(a, b change) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "+%7.2fs  %-8s  %-24s", c.at.Sub(from).Seconds(), c.kind, c.name)
		if c.row == nil {
			b.WriteString("  gone\n")
			continue
		}
		for _, name := range l.columns[c.kind] {
			if v := c.row[name]; v != "" {
				fmt.Fprintf(&b, "  %s=%s", strings.ToUpper(name), v)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
