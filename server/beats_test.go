package server_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

func onHTTP(c *server.Config) { c.ListenBeats = "127.0.0.1:0" }

// beaten is what a beat by HTTP was answered with.
type beaten struct {
	status     int
	header     http.Header
	Server     string
	Interval   int64
	Lease      int64
	Reason     string
	RetryAfter int64
	Servers    []struct{ Address string }
}

// requester sends beats.
type requester struct {
	t      *testing.T
	client *http.Client
	url    string // of the server
	token  string
}

func requests(t *testing.T, url, token string, config *tls.Config) *requester {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &requester{t, &http.Client{Transport: transport, Timeout: patience}, url, token}
}

func byHTTP(t *testing.T, at *running, token string) *requester {
	t.Helper()
	return requests(t, "http://"+at.AddrOf(server.ListenerBeats).String(), token, nil)
}

func (r *requester) ask(method, path, body string) beaten {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b := beaten{status: resp.StatusCode, header: resp.Header}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(raw) > 0 && resp.Header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(raw, &b); err != nil {
			r.t.Fatalf("%s %s: %s: %v", method, path, raw, err)
		}
	}
	return b
}

func (r *requester) beat(client, body string) beaten {
	r.t.Helper()
	return r.ask(http.MethodPut, "/v1/beats/im/phone/"+client, body)
}

func TestBeatsByHTTPAreASession(t *testing.T) {
	etcd := storetest.Start(t)
	a := start(t, etcd.Endpoints(), "a", onHTTP)
	alice := byHTTP(t, a, "alice")
	if got := alice.beat("c", `{"interval":30000,"attributes":{"by":"curl"},"more":1}`); got.status != 200 || got.Server != a.name ||
		got.Interval != 30000 || got.Lease != 50000 || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("answered with %+v", got)
	}
	online(t, a, "phone", "c")
	s, revision := record(t, a.store, "phone", "c")
	if s.Principal != "alice" || s.Interval != 30000 || s.Attributes["by"] != "curl" {
		t.Errorf("recorded as %+v", s)
	}
	for range 20 { // who just beats is not written
		if got := alice.beat("c", `{"interval":30000}`); got.status != 200 {
			t.Fatalf("answered with %+v", got)
		}
	}
	if got := alice.ask(http.MethodPut, "/v1/beats/im/phone/c?interval=1s", ""); got.status != 200 || got.Interval != 5000 {
		t.Errorf("an interval under the least: %+v", got)
	}
	eventually(t, "another interval is recorded", func() bool { s, _ := record(t, a.store, "phone", "c"); return s.Interval == 5000 })
	if _, now := record(t, a.store, "phone", "c"); now <= revision {
		t.Errorf("it was at revision %d, and is at %d", revision, now)
	}
	if all := history(t, etcd.Client(), "phone", "c"); len(all) != 2 {
		t.Errorf("%d records were written, want 2: %+v", len(all), all)
	}
	if got := alice.beat("c", ""); got.Interval != 60000 {
		t.Errorf("no interval: %+v, want the longest", got)
	}
	alice.beat("c", `{"attributes":{"by":"another"}}`)
	eventually(t, "other attributes are recorded", func() bool { s, _ := record(t, a.store, "phone", "c"); return s.Attributes["by"] == "another" })

	// MQTT and HTTP take each other's session over.
	c := must(t, a.addr(), id("c"))
	if got := alice.ask(http.MethodDelete, "/v1/beats/im/phone/c", ""); got.status != http.StatusConflict {
		t.Errorf("DELETE of a connected client: %+v", got)
	}
	if got := alice.beat("c", ""); got.status != 200 {
		t.Errorf("answered with %+v", got)
	}
	if d := c.ends(t); d.ReasonCode != 0x8e {
		t.Errorf("told %#x, want session taken over", d.ReasonCode)
	}
	bob := byHTTP(t, a, "bob")
	if got := bob.beat("c", ""); got.status != http.StatusForbidden || got.Reason != "principal" {
		t.Errorf("another principal: %+v", got)
	}
	if got := bob.ask(http.MethodDelete, "/v1/beats/im/phone/c", ""); got.status != http.StatusForbidden {
		t.Errorf("DELETE by another principal: %+v", got)
	}

	if got := alice.ask(http.MethodDelete, "/v1/beats/im/phone/c", ""); got.status != http.StatusNoContent {
		t.Errorf("DELETE: %+v", got)
	}
	eventually(t, "it has left", func() bool { s, _ := record(t, a.store, "phone", "c"); return s.Offline && s.LastSeen == s.Since })
	if got := alice.ask(http.MethodDelete, "/v1/beats/im/phone/c", ""); got.status != http.StatusNotFound {
		t.Errorf("DELETE of nobody: %+v", got)
	}
}

func TestASessionOfBeatsByHTTPEndsWithItsLease(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", onHTTP)
	r := byHTTP(t, a, "alice")
	if got := r.ask(http.MethodPut, "/v1/beats/im/quick/once", `{"interval":1000}`); got.status != 200 || got.Lease != 2000 {
		t.Fatalf("answered with %+v", got)
	}
	online(t, a, "quick", "once")
	r.client.CloseIdleConnections() // the connection is not the session
	eventually(t, "it is offline", func() bool { s, _ := record(t, a.store, "quick", "once"); return s.Offline && s.LastSeen < s.Since })
}

func TestASessionOfBeatsByHTTPMovesToAnotherServer(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a", onHTTP), start(t, etcd.Endpoints(), "b", onHTTP)
	toA, toB := byHTTP(t, a, "alice"), byHTTP(t, b, "alice")
	for range 2 {
		for _, to := range []struct {
			*requester
			at, from *running
		}{{toA, a, b}, {toB, b, a}} {
			eventually(t, "it is online at "+to.at.name, func() bool { // a server that did not know the last record needs another beat
				if got := to.beat("c", ""); got.status != 200 {
					t.Fatalf("answered with %+v", got)
				}
				s, _ := record(t, to.at.store, "phone", "c")
				return s.Incarnation == to.at.config.Incarnation && !s.Offline
			})
			eventually(t, to.from.name+" has no session any more", func() bool { return to.from.metric("rollcall_server_sessions", "kind", "client") == 0 })
		}
	}
	if s, _ := record(t, b.store, "phone", "c"); s.Offline {
		t.Error("it was taken for offline")
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", onHTTP, func(c *server.Config) { c.SessionsPerPresence = 1 })
	if got := byHTTP(t, a, "alice").ask(http.MethodPut, "/v1/beats/im/late/first", ""); got.status != 200 {
		t.Fatalf("answered with %+v", got)
	}
	for _, c := range []struct {
		name, token, path, body string
		status                  int
		reason                  string
	}{
		{"no credential", "", "im/phone/c", "", 401, "credentials"},
		{"nobody's credential", "mallory", "im/phone/c", "", 401, "credentials"},
		{"no right to connect", "nobody", "im/phone/c", "", 403, "unauthorized"},
		{"no such Presence", "alice", "im/fax/c", "", 404, "presence"},
		{"a client id that is none", "alice", "im/phone/a%20b", "", 400, "client-id"},
		{"a path in a client id", "alice", "im/phone/a%2Fb", "", 400, "client-id"},
		{"a Presence of servers", "alice", "rollcall-system/servers/c", "", 403, "unauthorized"},
		{"a body that is no object", "alice", "im/phone/c", "[]", 400, "payload"},
		{"a body that is too long", "alice", "im/phone/c", `{"attributes":{"a":"` + strings.Repeat("x", 5000) + `"}}`, 400, "payload"},
		{"too many attributes", "alice", "im/phone/c", `{"attributes":{"a":"` + strings.Repeat("x", 1100) + `"}}`, 400, "payload"},
		{"a negative interval", "alice", "im/phone/c", `{"interval":-1}`, 400, "payload"},
		{"an interval beyond all time", "alice", "im/phone/c", `{"interval":9223372036854775807}`, 400, "payload"},
		{"an interval without a unit", "alice", "im/phone/c?interval=30", "", 400, "payload"},
		{"one session more than a Presence may have", "alice", "im/late/second", "", 503, "presence-full"},
	} {
		before := a.refused(c.reason)
		got := byHTTP(t, a, c.token).ask(http.MethodPut, "/v1/beats/"+c.path, c.body)
		if got.status != c.status || got.Reason != c.reason || a.refused(c.reason) != before+1 {
			t.Errorf("%s: %d, %q", c.name, got.status, got.Reason)
		}
		if wait := got.header.Get("Retry-After"); (wait != "") != (c.status == 503) {
			t.Errorf("%s: Retry-After is %q", c.name, wait)
		}
	}
	if got := a.metric("rollcall_server_sessions", "kind", "client"); got != 1 {
		t.Errorf("there are %v sessions", got)
	}
	if c := connect5(t, a.addr(), user("im/late"), id("second")); c.err == nil || c.ack.ReasonCode != 0x97 {
		t.Errorf("one session more by MQTT: %+v", c.ack)
	}
	must(t, a.addr(), user("im/late"), id("first")) // it is no newcomer
}

func TestBeatsByHTTPAreSentElsewhereWhileAServerDrains(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a", onHTTP), start(t, etcd.Endpoints(), "b", onHTTP)
	alice := byHTTP(t, a, "alice")
	want := b.AddrOf(server.ListenerBeats).String()
	eventually(t, "they know of each other", func() bool {
		got := alice.beat("c", "")
		return len(got.Servers) == 1 && got.Servers[0].Address == want
	})
	direct(t, lead(t, b.store), a, store.Directive{
		Failover: "im/f1", Drain: true, Targets: []store.Target{{Server: b.name, Address: b.addr(), Weight: 1}}, Rate: 100,
	})
	var got beaten
	eventually(t, "beats are refused", func() bool {
		got = alice.beat("c", "")
		return got.status == http.StatusServiceUnavailable
	})
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	if err != nil || seconds < 1 || got.Reason != "draining" || len(got.Servers) != 1 || got.Servers[0].Address != want {
		t.Errorf("answered with %+v", got)
	}
	eventually(t, "the other one takes it", func() bool {
		if got := byHTTP(t, b, "alice").beat("c", ""); got.status != 200 {
			t.Fatalf("answered with %+v", got)
		}
		s, _ := record(t, b.store, "phone", "c")
		return s.Incarnation == b.config.Incarnation && !s.Offline
	})
}

func TestBeatsByHTTPSWithACertificate(t *testing.T) {
	p := newPKI(t)
	a := start(t, storetest.Etcd(t), "a", func(c *server.Config) {
		c.Authenticator, c.ListenBeatsTLS, c.TLS = &doorman{}, "127.0.0.1:0", p.server.Server(false)
	})
	r := requests(t, "https://"+a.AddrOf(server.ListenerBeatsTLS).String(), "", p.client.Client("rollcall"))
	reused := 0
	for range 5 {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if i.Reused {
				reused++
			}
		}})
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.url+"/v1/beats/im/phone/car-1", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("answered with %s", resp.Status)
		}
	}
	if reused != 4 {
		t.Errorf("%d of 5 requests went over a connection that was there", reused)
	}
	online(t, a, "phone", "car-1")
	if got := a.metric("rollcall_server_connections", "", ""); got != 1 {
		t.Errorf("%v connections are counted", got)
	}
	r.client.CloseIdleConnections()
	eventually(t, "none is", func() bool { return a.metric("rollcall_server_connections", "", "") == 0 })
}

func TestRequestsComeThroughALoadBalancer(t *testing.T) {
	who := &addressed{}
	a := start(t, storetest.Etcd(t), "a", onHTTP, func(c *server.Config) {
		c.Authenticator, c.Doors = who, map[server.Listener]server.Door{server.ListenerBeats: {Proxied: loopback}}
	})
	ask := func(beginning []byte) string {
		conn, err := net.DialTimeout("tcp", a.AddrOf(server.ListenerBeats).String(), patience)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		conn.Write(append(beginning, "PUT /v1/beats/im/phone/c HTTP/1.1\r\nHost: rollcall\r\nContent-Length: 0\r\n\r\n"...))
		b := make([]byte, 12)
		n, _ := io.ReadFull(conn, b)
		return string(b[:n])
	}
	if got := ask(heading("203.0.113.7:54321")); got != "HTTP/1.1 200" || who.of("c") != "203.0.113.7:54321" {
		t.Errorf("answered with %q, and it is from %q", got, who.of("c"))
	}
	if got := ask(nil); got != "" {
		t.Errorf("without a header answered with %q", got)
	}
	eventually(t, "it is counted", func() bool { return a.refused("proxy") == 1 })
}
