package failstatic

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/test/installation"
)

var (
	away = flag.Duration("for", 20*time.Second, "how long each part is away; `make failstatic` takes 5m")
	only = flag.String("rows", "", "the rows of the table to try, a regular expression; empty: all")
)

const (
	servers, agents, controllers = 3, 5, 2
	// recoverWithin bounds each wait for a recovery, on a busy machine.
	recoverWithin = 3 * time.Minute
	// grace is long, so that nobody is offline because the machine is busy.
	grace = 5 * time.Second
	// cutOff is the server whose way to etcd can be cut, victim the one that is
	// killed and stopped.
	cutOff, victim = 1, 2
)

// test is one installation, and who uses it.
type test struct {
	*testing.T
	*installation.Installation
	ctx    context.Context
	way    *storetest.Proxy // of cutOff to etcd
	people *people
}

// row is one line of the design's table, or what a line implies.
type row struct {
	name string
	// away takes the part away, back brings it back.
	away, back func(t *test)
	// during must come true while the part is away. Nil: nothing has to.
	during func(t *test) (what string, done func() bool)
	// moves are the servers whose clients may move, and come back.
	moves []string
}

var table = []row{
	{
		name: "the controllers",
		away: func(t *test) {
			for i := range controllers {
				t.Kill(installation.ControllerName(i))
			}
		},
		back: func(t *test) {
			for i := range controllers {
				t.must(t.StartController(i))
			}
		},
	},
	{
		name: "etcd",
		away: func(t *test) { t.Etcd.Kill() },
		back: func(t *test) { t.must(t.Etcd.Restart(t.ctx)) },
		during: func(t *test) (string, func() bool) {
			return "what could not be written to be listed, and the Presence to say that nothing is known", func() bool {
				return t.waiting() > 0 && t.storeAway() && t.saysNothingIsKnown()
			}
		},
	},
	{
		name: "the Kubernetes API",
		away: func(t *test) { t.Plane.APIServer.Kill() },
		back: func(t *test) { t.must(t.Plane.APIServer.Restart(t.ctx)) },
	},
	{
		// Without its observers a server that is slow is no server that is known to be.
		name: "all observers, and a server is slow",
		away: func(t *test) {
			for i := range agents {
				t.must(t.Part(installation.AgentName(i)).Pause())
			}
			t.wait("nobody to be judged alive", func() bool { return t.alive() == 0 })
			t.must(t.AnswerDelay(t.ctx, victim, 800*time.Millisecond))
		},
		back: func(t *test) {
			t.must(t.AnswerDelay(t.ctx, victim, 0))
			for i := range agents {
				t.must(t.Part(installation.AgentName(i)).Resume())
			}
		},
	},
	{
		name: "etcd, for one server",
		away: func(t *test) { t.way.Cut() },
		back: func(t *test) { t.way.Mend() },
	},
	{
		name:  "one heartbeat server",
		away:  func(t *test) { t.Kill(installation.ServerName(victim)) },
		back:  func(t *test) { t.must(t.StartServer(t.ctx, victim)) },
		moves: []string{full(victim)},
	},
	{
		name:  "one heartbeat server, which is stopped",
		away:  func(t *test) { t.must(t.Part(installation.ServerName(victim)).Pause()) },
		back:  func(t *test) { t.must(t.Part(installation.ServerName(victim)).Resume()) },
		moves: []string{full(victim)},
	},
}

func full(i int) string { return installation.Namespace + "/" + installation.ServerName(i) }

func TestNobodyIsOfflineOrMovedBecauseAPartIsAway(t *testing.T) {
	if testing.Short() {
		t.Skip("takes every part of a whole installation away, for a while each")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rows := regexp.MustCompile(*only)
	all := start(ctx, t)
	for _, r := range table {
		if rows.MatchString(r.name) && !all.run(r) {
			break
		}
	}
	all.people.noMore()
	if !t.Failed() {
		all.wait("everybody who has left to be recorded so", all.people.left)
	}
	cancel() // the others leave
	all.people.group.Wait()
	if t.Failed() {
		t.Logf("Logs:\n%s", all.LogTails())
	}
}

func start(ctx context.Context, t *testing.T) *test {
	binary := filepath.Join(t.TempDir(), "rollcall")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/rollcall-dev/rollcall/cmd/rollcall").CombinedOutput(); err != nil {
		t.Fatalf("building rollcall: %v\n%s", err, out)
	}
	all := &test{T: t, ctx: ctx}
	var err error
	all.Installation, err = installation.Start(ctx, installation.Config{
		Servers: servers, Agents: agents, Controllers: controllers, Capacity: 1000, Binary: binary,
		Clients: v1alpha1.ClientsSpec{Grace: &metav1.Duration{Duration: grace}},
		Etcd: func(part, endpoint string) string {
			if part != installation.ServerName(cutOff) {
				return endpoint
			}
			if all.way == nil {
				all.way = storetest.ProxyTo(t, strings.TrimPrefix(endpoint, "http://"))
			}
			return "http://" + all.way.Endpoints()[0]
		},
	})
	t.Cleanup(all.Close)
	if err != nil {
		t.Fatalf("%v\nLogs:\n%s", err, all.LogTails())
	}
	all.people = newPeople(ctx, t, all.Installation, max(*away, 30*time.Second))
	all.wait("everybody to be recorded where he is", all.people.present)
	all.people.judge("the beginning")
	return all
}

func (t *test) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *test) wait(what string, done func() bool) {
	t.Helper()
	if err := t.WaitFor(t.ctx, what, recoverWithin, done); err != nil {
		t.Logf("Logs:\n%s", t.LogTails())
		t.Fatalf("%v\n%s\n%s\n%s", err, strings.Join(t.people.absent(), "\n"), t.seats(),
			t.Kubectl(t.ctx, "get", "presences,failovers", "-A"))
	}
}

// run takes a part away, and looks at what that does.
func (t *test) run(r row) bool {
	before := t.failovers()
	begin := time.Now()
	r.away(t)
	if r.during != nil {
		t.wait(r.during(t))
	}
	hold := time.NewTimer(*away - time.Since(begin))
	defer hold.Stop()
	select {
	case <-hold.C:
	case <-t.ctx.Done():
	}
	waiting := t.waiting()
	t.Logf("%s: away for %s; %.0f changes wait to be written", r.name, time.Since(begin).Round(time.Second), waiting)
	r.back(t)
	back := time.Now()
	t.wait("a controller to lead", t.led)
	t.wait("all servers to be judged alive again", func() bool { return t.Judged(t.ctx, servers) })
	t.wait("all that waited to be written", func() bool { return t.waiting() == 0 })
	t.wait("everybody to be recorded where he is", t.people.present)
	if len(r.moves) > 0 {
		t.wait("its share to come back", func() bool {
			return t.people.on(full(victim)) >= (steadyCount+patientCount)/servers/2 && t.settled()
		})
	} else {
		if now := t.failovers(); now != before {
			t.Errorf("%s: there were %d Failovers, now there are %d\n%s", r.name, before, now, t.Kubectl(t.ctx, "get", "failovers", "-A"))
		}
	}
	t.people.judge(r.name, r.moves...)
	t.Logf("%s: all is as before %s after it came back", r.name, time.Since(back).Round(100*time.Millisecond))
	return !t.Failed()
}

// failovers is how many there are, and settled whether all of them have ended.
func (t *test) failovers() int {
	t.Helper()
	n, _ := t.count()
	return n
}

func (t *test) settled() bool {
	n, ended := t.count()
	return n > 0 && n == ended
}

func (t *test) count() (n, ended int) {
	t.Helper()
	var list v1alpha1.FailoverList
	t.must(t.API.List(t.ctx, &list))
	for _, f := range list.Items {
		n++
		if f.Status.CompletedAt != nil {
			ended++
		}
	}
	return n, ended
}

// alive is how many servers are judged so, -1 where that is not known.
func (t *test) alive() int {
	presence, err := t.Servers(t.ctx)
	if err != nil {
		return -1
	}
	return int(presence.Status.Counts.Alive)
}

// saysNothingIsKnown tells whether the status of the servers says that etcd is away.
func (t *test) saysNothingIsKnown() bool {
	presence, err := t.Servers(t.ctx)
	return err == nil && presence.Status.Reason == v1alpha1.ReasonStoreAway
}

// led tells whether a controller leads.
func (t *test) led() bool {
	for i := range controllers {
		if n, err := t.ControllerMetric(t.ctx, i, "rollcall_controller_leading"); err == nil && n == 1 {
			return true
		}
	}
	return false
}

// waiting is how many clients there are of whom something waits to be written.
func (t *test) waiting() float64 {
	sum := 0.0
	for i := range servers {
		n, err := t.ServerMetric(t.ctx, i, "rollcall_recorder_waiting")
		if err == nil { // else it is away
			sum += n
		}
	}
	return sum
}

// seats tells how many are on each server, by its own count, and of those who stay.
func (t *test) seats() string {
	var b strings.Builder
	for i := range servers {
		n, err := t.ServerMetric(t.ctx, i, `rollcall_server_sessions{kind="client"}`)
		fmt.Fprintf(&b, "%s counts %.0f sessions (error: %v), %d of them of those who stay\n", full(i), n, err, t.people.on(full(i)))
	}
	return b.String()
}

// storeAway tells whether every server finds that etcd has been away for long.
func (t *test) storeAway() bool {
	for i := range servers {
		if s, err := t.ServerMetric(t.ctx, i, "rollcall_store_away_seconds"); err != nil || s <= 5 {
			return false
		}
	}
	return true
}
