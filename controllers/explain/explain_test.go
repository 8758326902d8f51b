package explain

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// observers are three agents in three zones.
var observers = []verdict.Observer{{Name: "node-4", Zone: "a"}, {Name: "node-5", Zone: "b"}, {Name: "node-6", Zone: "c"}}

// fleet is one server as the three observers see it, judged twice: well, and
// then so.
func fleet(change func(*verdict.ServerEvidence), bands ...string) Explanation {
	e := verdict.ServerEvidence{
		Name: "im/server-2", Incarnation: "u.1", Node: "node-2", Zone: "a", Assigned: observers,
		Lease: verdict.LeaseLive, NodeState: verdict.Alive, Sessions: 1000,
	}
	well := e
	for _, o := range observers {
		well.Observations = append(well.Observations, verdict.Observation{
			Observer: o, Band: "ok", Seen: noon.Add(-time.Hour), Healthy: true, Online: true, Answer: 3 * time.Millisecond,
		})
	}
	for i, band := range bands {
		e.Observations = append(e.Observations, verdict.Observation{
			Observer: observers[i], Band: band, Seen: noon.Add(-2 * time.Second), Healthy: true, Online: true,
		})
	}
	if change != nil {
		change(&e)
	}
	x := Explanation{
		Presence: "im/servers", Mode: "Automatic", Evidence: e,
		World:  verdict.World{Now: noon, Started: noon.Add(-time.Hour), Warm: true},
		Policy: verdict.ServerPolicy{AnswerTime: 500 * time.Millisecond, Recovery: 5 * time.Second, Observers: 3},
	}
	before := x.World
	before.Now, before.Warm = noon.Add(-10*time.Second), false // takes what it first sees as it is
	j := verdict.Servers(before, x.Policy, []verdict.ServerEvidence{well}, nil, verdict.Brake{})
	j = verdict.Servers(x.World, x.Policy, []verdict.ServerEvidence{e}, j.Verdicts, j.Brake)
	x.Verdict, x.Brake = j.Verdicts[e.Name], j.Brake
	return x
}

func TestWhatWouldChangeAVerdict(t *testing.T) {
	tests := []struct {
		name   string
		x      Explanation
		state  verdict.State
		expect []string
	}{
		{
			name: "a server that is well needs two witnesses against it", x: fleet(nil, "ok", "ok", "ok"), state: verdict.Alive,
			expect: []string{
				"It would be Overloaded if, for instance, node-4 and node-5 got no answer for 1.4s.",
				"It would be Dead if, for instance, node-4 and node-5 were refused a connection.",
			},
		},
		{
			name: "one accuser: any second witness or kind of evidence is enough", x: fleet(nil, "hung", "ok", "ok"), state: verdict.Suspect,
			expect: []string{
				"It would be Overloaded if node-5 or node-6 got no answer for 1.4s, if its own work queue were later than 500ms, or if 10 clients had left it within seconds because its answers were late.",
				"It would be Dead if, for instance, node-4 and node-5 were refused a connection.",
				"It will be Alive once node-4 gets answers in time.",
			},
		},
		{
			name: "two accusers", x: fleet(nil, "hung", "hung", "ok"), state: verdict.Overloaded,
			expect: []string{
				"It would be Dead if, for instance, node-4 and node-5 were refused a connection.",
				"It will be Alive once node-4 and node-5 get answers in time, for 5s without a break.",
			},
		},
		{
			name: "refused by all", x: fleet(nil, "refused", "refused", "refused"), state: verdict.Dead,
			expect: []string{"It will be Alive once node-4, node-5 and node-6 get answers in time, for 5s without a break."},
		},
		{
			name: "nobody watches", x: fleet(nil), state: verdict.Unknown,
			expect: []string{
				"It would be Overloaded if, for instance, node-4 and node-5 got no answer for 1.4s.",
				"It would be Dead if, for instance, node-4 and node-5 were refused a connection.",
				"It will be Alive once node-4 gets answers in time.",
			},
		},
		{
			name: "no agents at all", x: fleet(func(e *verdict.ServerEvidence) { e.Assigned = nil }), state: verdict.Unknown,
			expect: []string{"No agent can observe it: one on another node must be running and online."},
		},
		{
			name:  "a restarted process that has answered nobody",
			x:     fleet(func(e *verdict.ServerEvidence) { e.Incarnation = "u.2" }, "hung", "hung", "hung"),
			state: verdict.Suspect,
			expect: []string{
				"It would be Dead if, for instance, node-4 and node-5 were refused a connection.",
				"It will be Alive once node-4, node-5 and node-6 get answers in time.",
				"It can't be Overloaded before this process has answered somebody.",
			},
		},
		{
			name:  "exempt by annotation",
			x:     fleet(func(e *verdict.ServerEvidence) { e.Paused = true }, "hung", "hung", "ok"),
			state: verdict.Suspect,
			expect: []string{
				"It will be Alive once node-4 and node-5 get answers in time, for 5s without a break.",
			},
		},
		{
			name:  "only its record has expired",
			x:     fleet(func(e *verdict.ServerEvidence) { e.Lease = verdict.LeaseGone }, "ok", "ok", "ok"),
			state: verdict.Suspect,
			expect: []string{
				"It would be Overloaded if, for instance, node-4 and node-5 got no answer for 1.4s.",
				"It would be Dead if, for instance, node-4 and node-5 were refused a connection.",
				"It will be Alive once its record in etcd is renewed.",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := Of(tt.x)
			if j.State != string(tt.state) {
				t.Fatalf("%s (%s), want %s", j.State, j.Message, tt.state)
			}
			if d := cmp.Diff(tt.expect, j.Changes); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAServerThatRecoversIsToldWhenItIsTrusted(t *testing.T) {
	x := fleet(nil, "hung", "hung", "ok")
	for i := range x.Evidence.Observations {
		x.Evidence.Observations[i].Band, x.Evidence.Observations[i].Seen = "ok", noon
	}
	x.Verdict = x.judge(x.Evidence, noon, x.Verdict)
	x.World.Now = noon.Add(2 * time.Second)
	x.Verdict = x.judge(x.Evidence, x.World.Now, x.Verdict)
	if want := "It will be Alive in 3s if its observers go on as now."; !slices.Contains(Of(x).Changes, want) {
		t.Errorf("%q lacks %q", Of(x).Changes, want)
	}
}

func TestWordsThatDoNotCountSayWhy(t *testing.T) {
	x := fleet(func(e *verdict.ServerEvidence) {
		e.Observations[0].Healthy = false
		e.Observations[1].Incarnation = "u.0"
	}, "hung", "hung", "lossy")
	x.Evidence.Assigned = append(slices.Clone(observers), verdict.Observer{Name: "node-7"}, verdict.Observer{Name: "node-8"})
	x.Evidence.Observations = append(x.Evidence.Observations, verdict.Observation{
		Observer: verdict.Observer{Name: "node-8"}, Band: "unasked", Healthy: true, Online: true, Detail: "Secret im/web does not exist",
	})
	var got []string
	for _, o := range Of(x).Evidence.Observers {
		got = append(got, o.Name+": "+o.Ignored)
	}
	want := []string{"node-4: its own health is poor", "node-5: it speaks of another process", "node-6: it abstains: the path loses packets", "node-7: it has said nothing", "node-8: it abstains: Secret im/web does not exist"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

type oracle struct {
	known map[string]Explanation
	found []Session
	err   error
	asked []string
}

func (o *oracle) Explain(server string) (Explanation, bool) {
	x, ok := o.known[server]
	return x, ok
}

func (o *oracle) Find(_ context.Context, _ string, presences []string) ([]Session, error) {
	o.asked = presences
	return slices.Clone(o.found), o.err
}

func TestQuestionsOverHTTP(t *testing.T) {
	o := &oracle{
		known: map[string]Explanation{"im/server-2": fleet(nil, "hung", "hung", "ok")},
		found: []Session{{Presence: "im/android", Server: "im/server-2", Online: true}, {Presence: "im/ios", Server: "im/gone"}},
	}
	tests := []struct {
		name, target string
		err          error
		status       int
		says         []string
	}{
		{"a judgement", "/judgement?server=im/server-2", nil, 200, []string{`"state":"Overloaded"`, `"leading":true`, `"controller":"c-0"`, `"queueDelay":"0s"`}},
		{"no server named", "/judgement", nil, 400, []string{"NAMESPACE/POD"}},
		{"a server without its namespace", "/judgement?server=server-2", nil, 400, []string{"NAMESPACE/POD"}},
		{"a server that is not judged", "/judgement?server=im/server-9", nil, 404, []string{"judges no server im/server-9"}},
		{"a client, with the verdict on its server", "/sessions?client=c1", nil, 200, []string{`"serverState":"Overloaded"`, `"server":"im/gone"`}},
		{"no client named", "/sessions", nil, 400, []string{"the id of a client"}},
		{"a client id that can't be one", "/sessions?client=a%2Fb", nil, 400, []string{"the id of a client"}},
		{"a presence without its namespace", "/sessions?client=c1&presence=android", nil, 400, []string{"NAMESPACE/NAME"}},
		{"the store is away", "/sessions?client=c1", errors.New("etcd is away"), 503, []string{"etcd is away"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o.err = tt.err
			h, err := New(Config{Judge: o, Sessions: o, ID: "c-0", Leading: func() bool { return true }})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			h.Register(mux)
			rec := httptest.NewRecorder()
			mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, tt.target, nil))
			if rec.Code != tt.status || !json.Valid(rec.Body.Bytes()) {
				t.Errorf("%d %s, want %d and JSON", rec.Code, rec.Body, tt.status)
			}
			for _, s := range tt.says {
				if !strings.Contains(rec.Body.String(), s) {
					t.Errorf("%s lacks %s", rec.Body, s)
				}
			}
		})
	}
}

func TestAJudgementSurvivesTheWire(t *testing.T) {
	j := Of(fleet(nil, "hung", "slow", "ok"))
	raw, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var back Judgement
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(j, back); d != "" {
		t.Error(d)
	}
}
