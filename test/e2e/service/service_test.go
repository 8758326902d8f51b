package service

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within is how long a test waits for what must come to pass.
const within = 30 * time.Second

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// running runs f until the test ends, or end is called.
func running(t *testing.T, f func(context.Context) error) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	done := false
	end = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return end
}

// pair is a server and its clients.
type pair struct {
	t                         *testing.T
	address, control, clients string
	endServer                 func()
}

func begin(t *testing.T, speech Speech, count int) *pair {
	t.Helper()
	listener, control, told := listen(t), listen(t), listen(t)
	p := &pair{t: t, address: listener.Addr().String(), control: control.Addr().String(), clients: told.Addr().String()}
	p.endServer = running(t, func(ctx context.Context) error {
		return Serve(ctx, ServerConfig{Name: "chat-0", Speech: speech, Listener: listener, Control: control, Slow: Late + 100*time.Millisecond})
	})
	running(t, func(ctx context.Context) error {
		return Use(ctx, ClientsConfig{Speech: speech, Address: listener.Addr().String(), Count: count, PerSecond: 1000, Every: 10 * time.Millisecond, Control: told})
	})
	return p
}

func (p *pair) mode(m Mode) {
	p.t.Helper()
	if status, text := p.put("mode/" + string(m)); status != http.StatusNoContent {
		p.t.Fatalf("mode %s: %d %s", m, status, text)
	}
}

// put puts something to the server's controls, and returns what they say.
func (p *pair) put(path string) (status int, text string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPut, fmt.Sprintf("http://%s/%s", p.control, path), http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer.StatusCode, string(said)
}

func (p *pair) tell() []Client {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.clients+"/clients", http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	var all []Client
	if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
		p.t.Fatal(err)
	}
	return all
}

// every waits until so of every client.
func (p *pair) every(what string, so func(Client) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), within)
	defer cancel()
	for {
		all := p.tell()
		n := 0
		for _, c := range all {
			if so(c) {
				n++
			}
		}
		if n == len(all) {
			return
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			p.t.Fatalf("%d of %d clients %s: %+v", n, len(all), what, all)
		}
	}
}

func speeches(t *testing.T, f func(t *testing.T, s Speech)) {
	for _, s := range []Speech{HTTP, GRPC, WebSocket} {
		t.Run(string(s), func(t *testing.T) { f(t, s) })
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestClientsWaitForADeadlockedServerAndAreAnsweredWhenItGoesOn(t *testing.T) {
	speeches(t, func(t *testing.T, s Speech) {
		p := begin(t, s, 5)
		p.every("were answered", func(c Client) bool { return c.Pod == "chat-0" })
		p.mode(Deadlocked)
		from := time.Now()
		p.every("wait", func(c Client) bool { _, ok := c.Answered(from, time.Now()); return !ok })
		p.mode(Well)
		p.every("were answered again", func(c Client) bool {
			at, ok := c.Answered(from, time.Now())
			return ok && at.After(from)
		})
		for _, c := range p.tell() {
			if len(c.Broken) > 0 {
				t.Errorf("client %d had connections ended by others: %v", c.ID, c.Broken)
			}
		}
	})
}

func TestAnswersOfASlowServerAreLate(t *testing.T) {
	speeches(t, func(t *testing.T, s Speech) {
		p := begin(t, s, 3)
		p.every("were answered", func(c Client) bool { return c.Pod == "chat-0" })
		p.mode(Slow)
		p.every("were answered late", func(c Client) bool {
			last := c.Turns[len(c.Turns)-1]
			return last.Error == "" && last.Took > Late
		})
	})
}

func TestAServerThatDoesNotAcceptServesWhomItHas(t *testing.T) {
	speeches(t, func(t *testing.T, s Speech) {
		p := begin(t, s, 3)
		p.every("were answered", func(c Client) bool { return c.Pod == "chat-0" })
		p.mode(NotAccepting)
		late := listen(t)
		running(t, func(ctx context.Context) error {
			return Use(ctx, ClientsConfig{Speech: s, Address: p.address, Count: 2, PerSecond: 1000, Every: 10 * time.Millisecond, Control: late})
		})
		first := *p
		p.clients = late.Addr().String()
		p.every("wait", func(c Client) bool { return !c.Asking.IsZero() })
		before := first.tell()
		first.every("were answered 20 times more, on the connection that they had", func(c Client) bool {
			return c.Answers["chat-0"] >= before[c.ID].Answers["chat-0"]+20 && len(c.Broken) == 0
		})
		// The one connection that was waited for is taken from the kernel, and held.
		p.every("have no answer", func(c Client) bool { return len(c.Answers) == 0 })
		p.mode(Well)
		p.every("were answered", func(c Client) bool { return c.Answers["chat-0"] > 0 })
	})
}

func TestABurstLastsAndEndsNoConnection(t *testing.T) {
	p := begin(t, HTTP, 3)
	defer http.DefaultClient.CloseIdleConnections()
	p.every("were answered", func(c Client) bool { return c.Pod == "chat-0" })
	began := time.Now()
	if status, text := p.put("burst/100ms"); status != http.StatusNoContent || time.Since(began) < 100*time.Millisecond {
		t.Errorf("a burst of 100 ms was answered by %d %s after %s", status, text, time.Since(began))
	}
	before := p.tell()
	p.every("were answered after it, on the connection that they had", func(c Client) bool {
		return c.Answers["chat-0"] > before[c.ID].Answers["chat-0"] && len(c.Broken) == 0
	})
	for _, length := range []string{"long", "0s", "-1s", "1h"} {
		if status, text := p.put("burst/" + length); status != http.StatusBadRequest || !strings.Contains(text, "at most 10s") {
			t.Errorf("a burst of %q was answered by %d %s", length, status, text)
		}
	}
}

func TestConnectionsThatAServerEndsAreCountedAsItsOwn(t *testing.T) {
	speeches(t, func(t *testing.T, s Speech) {
		p := begin(t, s, 5)
		p.every("were answered", func(c Client) bool { return c.Pod == "chat-0" })
		p.endServer()
		p.every("noticed", func(c Client) bool { return c.Broken["chat-0"] == 1 })
	})
}

func TestWhatIsAmissIsSaidWithTheRemedy(t *testing.T) {
	l := listen(t)
	defer l.Close()
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"a server without a name", Serve(t.Context(), ServerConfig{Listener: l, Control: l, Speech: HTTP, Slow: 1}), "name must say"},
		{"a server that speaks French", Serve(t.Context(), ServerConfig{Name: "x", Listener: l, Control: l, Speech: "french", Slow: 1}), "give http, grpc or websocket"},
		{"no clients", Use(t.Context(), ClientsConfig{Address: "x", Control: l, Speech: HTTP, Every: 1, PerSecond: 1}), "must be above 0"},
		{"work over gRPC", Use(t.Context(), ClientsConfig{Address: "x", Control: l, Speech: GRPC, Every: 1, PerSecond: 1, Count: 1, Units: 5}), "0 but for http"},
		{"a mode that there is not", newWorker(1).set("sleepy"), "give well, deadlocked"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, c.err, c.want)
		}
	}
}

func TestAnswersMayCostMoreWork(t *testing.T) {
	p := begin(t, HTTP, 1)
	defer http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]int{"work/8": http.StatusNoContent, "work/0": http.StatusBadRequest, "work/1001": http.StatusBadRequest, "work/much": http.StatusBadRequest} {
		if status, text := p.put(path); status != want {
			t.Errorf("%s was answered by %d %s, want %d", path, status, text, want)
		}
	}
	w := newWorker(time.Second)
	if w.multiplied() != 1 {
		t.Errorf("to begin with work is multiplied by %d", w.multiplied())
	}
	if err := w.multiply(8); err != nil || w.multiplied() != 8 {
		t.Errorf("it is multiplied by %d, %v", w.multiplied(), err)
	}
}
