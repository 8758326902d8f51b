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

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// What the timeline follows.
const (
	presences = "presence"
	members   = "member" // of a Presence, one that is not alive: memberOf
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

// memberOf names a member in the timeline.
func memberOf(presence, member string) string { return presence + "/" + member }

// row is what the line says, by column, the age left out.
type row map[string]string

// change is a line that is new, or says something new; without a row it is gone.
type change struct {
	at time.Time
	subject
	row
}

// timeline follows what `kubectl get presence` and `kubectl get failovers` print,
// whom a Presence's status names as not alive, and beside it what plain Kubernetes knows: whether nodes and servers are ready.
type timeline struct {
	w *world

	mu      sync.Mutex
	columns map[string][]string // by kind, in order
	now     map[subject]row
	changes []change
	// tenants are namespaces of whose pods it is followed, too, whether they are ready.
	tenants []string
	// silent since when the API server has not answered; zero: it does.
	silent time.Time
}

func follow(ctx context.Context, w *world) *timeline {
	l := &timeline{w: w, columns: map[string][]string{members: {"State"}, nodeReady: {"Ready"}, podReady: {"Node", "Ready", "Restarts"}}, now: map[subject]row{}}
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
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Param("includeObject", "Object").DoRaw(ctx)
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
		var o object
		if err := json.Unmarshal(line.Object.Raw, &o); err != nil {
			return err
		}
		for _, m := range o.Status.NotAlive {
			seen[subject{members, memberOf(o.Name, m.Name)}] = row{"State": m.State}
		}
		r := row{}
		for i, c := range t.ColumnDefinitions {
			if slices.Contains(columns, c.Name) && i < len(line.Cells) && line.Cells[i] != nil {
				r[c.Name] = fmt.Sprint(line.Cells[i])
			}
		}
		seen[subject{kind, o.Name}] = r
	}
	return nil
}

// object is what is read of an object beside its line: of a Failover, its name.
type object struct {
	metav1.ObjectMeta `json:"metadata"`
	Status            struct {
		NotAlive []v1alpha1.MemberStatus `json:"notAlive"`
	} `json:"status"`
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
	l.mu.Lock()
	tenants := slices.Clone(l.tenants)
	l.mu.Unlock()
	for _, tenant := range tenants {
		list, err := l.w.kube.CoreV1().Pods(tenant).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		pods = append(pods, list.Items...)
	}
	for i := range pods {
		seen[subject{podReady, pods[i].Name}] = row{
			"Node": pods[i].Spec.NodeName, "Ready": fmt.Sprint(ready(&pods[i])), "Restarts": fmt.Sprint(restarts(&pods[i])),
		}
	}
	return nil
}

// alsoPodsOf has the pods of one more namespace followed.
func (l *timeline) alsoPodsOf(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tenants = append(l.tenants, namespace)
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

// heldDead are the nodes that were ever held dead, of changes.
func heldDead(changes []change) []string {
	var names []string
	for _, c := range changes {
		name, ok := strings.CutPrefix(c.name, memberOf(nodes, ""))
		if c.kind == members && ok && c.row["State"] == string(verdict.Dead) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
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
