package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

type listed struct {
	Server   string
	Sessions []struct {
		Namespace, Presence, Client string
		Since, LastBeat, Interval   int64
		Connected                   bool
	}
	Continue string
}

// list asks for a page of sessions.
func list(t *testing.T, s *server.Server, token, query string) (listed, int) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/sessions?"+query, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.SessionsHandler().ServeHTTP(w, r)
	var l listed
	if w.Code == 200 {
		if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
	}
	return l, w.Code
}

func TestSessionsAreListedToWhoMayWatchThem(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", onHTTP, watched)
	want := map[string]bool{}
	for i := range 25 {
		name := fmt.Sprintf("c-%d", i)
		must(t, a.addr(), id(name))
		want[name] = true
	}
	if got := byHTTP(t, a, "eve").beat("web-1", ""); got.status != 200 {
		t.Fatalf("answered with %+v", got)
	}
	must(t, a.addr(), id("q"), user("im/quick"), every(5))
	must(t, a.addr(), id("probe"), user("rollcall-system/nodes"), password("agent"), says("rollcall-probe", "1"))

	for _, c := range []struct {
		name, token, query string
		status             int
		want               func(key string) bool // "presence/client"
	}{
		{"all", "eve", "", 200, func(string) bool { return true }},
		{"of one Presence", "eve", "namespace=im&presence=phone", 200, func(k string) bool { return strings.HasPrefix(k, "phone/") }},
		{"of a namespace without any", "eve", "namespace=other", 200, func(string) bool { return false }},
		{"by the beginning of their ids", "eve", "client=c-1", 200, func(k string) bool { return strings.Contains(k, "/c-1") }},
		{"a few at a time", "eve", "limit=4", 200, func(string) bool { return true }},
		{"none of them may be watched", "alice", "", 200, func(string) bool { return false }},
		{"nobody's credential", "mallory", "", 401, nil},
		{"no credential", "", "", 401, nil},
		{"a limit that is none", "eve", "limit=0", 400, nil},
		{"a limit that is too high", "eve", "limit=1001", 400, nil},
		{"a page that is none", "eve", "continue=%2F", 400, nil},
	} {
		got := map[string]bool{}
		for query, pages := c.query, 0; ; pages++ {
			page, status := list(t, a.Server, c.token, query)
			if status != c.status {
				t.Fatalf("%s: answered with %d", c.name, status)
			}
			if c.query == "limit=4" && len(page.Sessions) > 4 {
				t.Errorf("%s: %d on a page", c.name, len(page.Sessions))
			}
			for _, s := range page.Sessions {
				key := s.Presence + "/" + s.Client
				if got[key] {
					t.Errorf("%s: %s is listed twice", c.name, key)
				}
				got[key] = true
				if s.Connected == (s.Client == "web-1") || s.Interval == 0 || s.Since == 0 || s.LastBeat < s.Since-1000 {
					t.Errorf("%s: %+v", c.name, s)
				}
			}
			if page.Continue == "" || pages > 100 {
				break
			}
			query = c.query + "&continue=" + page.Continue
		}
		expected := map[string]bool{}
		for _, k := range append(slices.Collect(maps.Keys(want)), "web-1") {
			if key := "phone/" + k; c.want != nil && c.want(key) {
				expected[key] = true
			}
		}
		if c.want != nil && c.want("quick/q") {
			expected["quick/q"] = true
		}
		if !maps.Equal(got, expected) {
			t.Errorf("%s: listed are %v, want %v", c.name, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(expected)))
		}
	}
	if got := requests(t, "http://"+a.AddrOf(server.ListenerBeats).String(), "eve", nil).ask(http.MethodGet, "/v1/sessions?limit=1", ""); got.status != 200 || got.Server != a.name {
		t.Errorf("where beats go: %+v", got)
	}
}
