package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/record"
	"github.com/rollcall-dev/rollcall/server/session"
)

// saying is what a beat says: the body of a request, or nothing. Names that are not
// known are left.
type saying struct {
	// Interval until the next beat, in milliseconds; 0: the longest that there may be.
	Interval int64 `json:"interval"`
	// Attributes replace those of the session; nil: as before.
	Attributes map[string]string `json:"attributes"`
}

// granted answers a beat.
type granted struct {
	Server      string `json:"server"`
	Incarnation string `json:"incarnation"`
	// Interval until the next beat, and Lease that the session lives without one, in
	// milliseconds.
	Interval int64 `json:"interval"`
	Lease    int64 `json:"lease"`
	// Servers are where else to go, best first.
	Servers []elsewhere `json:"servers"`
}

// turnedDown answers a request that is refused.
type turnedDown struct {
	Error  string `json:"error"`
	Reason why    `json:"reason"`
	// RetryAfter is when to come back, in milliseconds.
	RetryAfter int64       `json:"retryAfter,omitempty"`
	Servers    []elsewhere `json:"servers,omitempty"`
}

type elsewhere struct {
	Address string `json:"address"`
	Load    int    `json:"load"` // sessions as a share of capacity, in percent
}

// put is a beat.
func (b *beats) put(w http.ResponseWriter, r *http.Request) {
	v, refused := b.visitor(r)
	if refused == nil {
		refused = v.beat(r)
	}
	if refused != nil || !v.stays() {
		w.Header().Set("Connection", "close")
	}
	b.s.answer(w, v, refused)
}

// remove is a client that leaves on purpose.
func (b *beats) remove(w http.ResponseWriter, r *http.Request) {
	v, refused := b.visitor(r)
	if refused == nil {
		refused = v.leave()
	}
	w.Header().Set("Connection", "close")
	if refused != nil {
		b.s.answer(w, v, refused)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// visitor is a client for the time of one request: a peer without a connection that
// lasts, which is never among the server's.
type visitor struct {
	*peer
	connect mqtt.Connect
	over    *stamped // nil: not known
	m       moment
	lease   session.Lease
}

// visitor is who asks, as far as the request alone says it.
func (b *beats) visitor(r *http.Request) (*visitor, *refusal) {
	v := &visitor{}
	l := &visit{state: r.TLS}
	if c, ok := r.Context().Value(heardKey{}).(*stamped); ok {
		l.at, v.over, v.m = &c.plain, c, c.take()
	}
	v.peer = &peer{s: b.s, link: l}
	v.connect = mqtt.Connect{
		Version: mqtt.V311, ClientID: r.PathValue("client"), UserName: r.PathValue("namespace") + "/" + r.PathValue("presence"),
		Password: []byte(bearer(r)),
		User: []mqtt.User{ // where it is: bounds of its interval may depend on it
			{Name: wire.PropNetwork, Value: r.URL.Query().Get("network")}, {Name: wire.PropRegion, Value: r.URL.Query().Get("region")},
		},
	}
	v.extra().entering = entering{key: store.SessionKey{Client: v.connect.ClientID}}
	if g := guestOf(l); g != nil && g.over != "" {
		return v, &refusal{why: g.over, reason: mqtt.QuotaExceeded, detail: tooMany[g.over], retryAfter: 5 * time.Second}
	}
	if b.s.ending.Load() {
		return v, &refusal{why: whyDraining, reason: mqtt.ServerShuttingDown, detail: "the server ends", retryAfter: time.Second}
	}
	return v, v.acceptable(v.connect)
}

// bearer is the token of a request; empty: it has none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// sayingOf is what the request says of its client.
func sayingOf(r *http.Request) (saying, time.Duration, *refusal) {
	bad := func(detail string) *refusal {
		return &refusal{why: whyPayload, reason: mqtt.PayloadFormatInvalid, detail: detail}
	}
	var said saying
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil && !errors.Is(err, io.EOF) {
		return said, 0, bad("the body of a beat is a JSON object of at most 4 KiB, or nothing")
	}
	asked := time.Duration(said.Interval) * time.Millisecond
	if q := r.URL.Query().Get("interval"); q != "" {
		var err error
		if asked, err = time.ParseDuration(q); err != nil {
			return said, 0, bad("interval is a duration, such as 30s")
		}
	}
	if asked < 0 || said.Interval > math.MaxInt32 || asked > math.MaxInt32*time.Millisecond {
		return said, 0, bad("interval is no time that a client could take")
	}
	if err := wire.CheckAttributes(said.Attributes); err != nil {
		return said, 0, &refusal{why: whyPayload, reason: mqtt.QuotaExceeded, detail: err.Error()}
	}
	return said, asked, nil
}

// beat takes a beat: of the session that there is, or of a new one.
func (v *visitor) beat(r *http.Request) *refusal {
	said, asked, refused := sayingOf(r)
	if refused != nil {
		return refused
	}
	s, key := v.s, v.more.entering.key
	class := s.table.Class(key.Namespace, key.Presence, false)
	v.interval = v.presence.interval(asked, false)
	v.lease = v.presence.lease(v.interval)
	if !s.table.Has(class, key.Client) {
		if refused := v.paced(); refused != nil {
			return refused
		}
	}
	if refused := v.authenticate(v.connect); refused != nil {
		return refused
	}
	if refused := s.closing(v.peer, asked); refused != nil {
		return refused
	}
	principal := v.more.entering.principal.Name
	if attend, ok := s.table.BeatAlone(class, key.Client, principal, v.interval, s.clock.Stamp().Tick); ok {
		s.metrics.beats.Inc()
		if attend && v.m.trusted {
			s.recorder.Packet(key, v.m.revision, v.m.stamp.Gaps)
		}
		if said.Attributes != nil {
			s.describe(key, principal, said.Attributes, v.m.stamp.Tick)
		}
		return nil
	}
	return v.begin(class, asked, said.Attributes)
}

// paced has those who begin come no faster than clients that connect.
func (v *visitor) paced() *refusal {
	if wait, ok := v.s.admission.admit(time.Now(), false); !ok {
		return &refusal{why: whyBusy, reason: mqtt.ServerBusy, detail: "too many clients at once", retryAfter: wait}
	}
	return nil
}

// begin begins a session, or goes on with one that was another connection's, or had another interval.
func (v *visitor) begin(class *session.Class, asked time.Duration, attributes map[string]string) *refusal {
	s, key, principal := v.s, v.more.entering.key, v.more.entering.principal.Name
	if !v.m.trusted {
		return &refusal{why: whyStarting, reason: mqtt.ServerUnavailable, detail: "this server was stopped, and the request may be from before", retryAfter: time.Second}
	}
	if s.table.Has(class, key.Client) {
		if refused := v.paced(); refused != nil { // each may be written
			return refused
		}
	}
	if refused := s.full(v.peer); refused != nil {
		return refused
	}
	now := time.Now()
	attached, err := s.table.Attach(session.Arrival[peer]{
		Class: class, Client: key.Client, Principal: principal, Lease: v.lease,
		Now: s.clock.Stamp().Tick, WallClock: now.UnixMilli(), Rights: uint8(v.more.entering.principal.Rights),
	})
	if err != nil {
		return &refusal{why: whyPrincipal, reason: mqtt.NotAuthorized, detail: "the session is another principal's"}
	}
	defer s.table.Release(attached.Session, nil)
	s.metrics.beats.Inc()
	if attached.Before != nil {
		attached.Before.goodbye(mqtt.Goodbye{Reason: mqtt.SessionTakenOver})
	}
	s.recorder.Online(record.Arrival{
		Key: key, Number: attached.Arrival, Proof: v.m.proof(), Gaps: v.m.stamp.Gaps,
		Session: store.Session{Principal: principal, Since: attached.Began, Interval: v.interval.Milliseconds(), Attributes: attributes},
	})
	if !s.table.Holds(attached.Session, attached.Arrival) {
		s.recorder.Offline(key, attached.Arrival, now, now) // it has ended before it was recorded
	}
	v.log("Client connected", "presence", class.Name(), "by", "HTTP", "resumed", !attached.New)
	return nil
}

// leave ends the session, if it has no connection.
func (v *visitor) leave() *refusal {
	if refused := v.authenticate(v.connect); refused != nil {
		return refused
	}
	s, key := v.s, v.more.entering.key
	class := s.table.Class(key.Namespace, key.Presence, false)
	found, ok := s.table.Find(class, key.Client)
	switch {
	case !ok:
		return &refusal{why: whyAbsent, detail: "the client has no session on this server"}
	case found.Principal != v.more.entering.principal.Name:
		return &refusal{why: whyPrincipal, reason: mqtt.NotAuthorized, detail: "the session is another principal's"}
	case found.Link != nil:
		return &refusal{why: whyConnected, detail: "the client is connected by MQTT: let it DISCONNECT"}
	}
	if found, ok = s.table.Drop(class, key.Client, found.Arrival); !ok {
		return &refusal{why: whyAbsent, detail: "the client has no session on this server"}
	}
	s.recorder.Left(key, found.Arrival, time.Now())
	if v.presence.Kind == Clients {
		s.ended.Add(1)
	}
	v.log("Client left", "by", "HTTP")
	return nil
}

// answer answers a beat, or says why it is refused. v is nil where nobody is known yet.
func (s *Server) answer(w http.ResponseWriter, v *visitor, refused *refusal) {
	servers := []elsewhere{}
	for _, h := range s.directory.hintsByHTTP() {
		servers = append(servers, elsewhere(h))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if refused == nil {
		_ = json.NewEncoder(w).Encode(granted{
			Server: s.name, Incarnation: s.cfg.Incarnation, Interval: v.interval.Milliseconds(), Lease: v.lease.Offline.Milliseconds(), Servers: servers,
		})
		return
	}
	s.metrics.refused(refused.why)
	if v != nil {
		v.log("Request was refused", "reason", refused.why, "code", refused.reason.String(), "detail", refused.detail)
	}
	status := statusOf(refused)
	answer := turnedDown{Error: refused.detail, Reason: refused.why}
	switch status {
	case http.StatusServiceUnavailable:
		wait := cmp.Or(refused.retryAfter, time.Second)
		answer.RetryAfter, answer.Servers = wait.Milliseconds(), servers
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="rollcall"`)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// statusOf is what HTTP has for a refusal.
func statusOf(r *refusal) int {
	switch r.why {
	case whyCredentials:
		return http.StatusUnauthorized
	case whyPresence, whyAbsent:
		return http.StatusNotFound
	case whyConnected:
		return http.StatusConflict
	case whyPayload:
		return http.StatusBadRequest
	}
	switch r.reason {
	case mqtt.NotAuthorized:
		return http.StatusForbidden
	case mqtt.ServerBusy, mqtt.ServerUnavailable, mqtt.QuotaExceeded, mqtt.UseAnotherServer, mqtt.ServerShuttingDown:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}
