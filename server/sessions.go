package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/server/session"
)

const (
	// pageSize is how many sessions a page has where nobody says so, and maxPage the most
	// that it may have.
	pageSize, maxPage = 100, 1000
	// lookedAt is how many sessions are looked at for one page: where few are asked for,
	// a page may be short, or empty, and not the last.
	lookedAt = 1 << 16
	// maxListings is how many listings there may be at once.
	maxListings = 8
)

// sessionPage is a page of the sessions that a server has.
type sessionPage struct {
	Server      string        `json:"server"`
	Incarnation string        `json:"incarnation"`
	Sessions    []sessionItem `json:"sessions"`
	// Continue goes on with the next page; empty: this is the last.
	Continue string `json:"continue,omitempty"`
}

// sessionItem is one session. Times are Unix milliseconds, durations milliseconds.
type sessionItem struct {
	Namespace string `json:"namespace"`
	Presence  string `json:"presence"`
	Client    string `json:"client"`
	Since     int64  `json:"since"`
	LastBeat  int64  `json:"lastBeat"`
	Interval  int64  `json:"interval"`
	// Connected: it has a connection; else it lives until its lease ends.
	Connected bool `json:"connected"`
}

// SessionsHandler lists the sessions of this server, a page at a time and in no order:
// those of Presences that whoever asks may watch, as their bearer token or client
// certificate has it. It answers with no more than a page in memory. In the query:
//
//	namespace, presence   of these alone
//	client                whose id begins so
//	limit                 of a page, at most 1000
//	continue              as the page before has it
func (s *Server) SessionsHandler() http.Handler {
	turns := make(chan struct{}, maxListings)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many listings at once", http.StatusServiceUnavailable)
			return
		}
		s.listSessions(w, r)
	})
}

func (s *Server) listSessions(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, at := pageSize, session.Position(0)
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxPage {
			http.Error(w, "limit is a number from 1 to "+strconv.Itoa(maxPage), http.StatusBadRequest)
			return
		}
		limit = n
	}
	if v := q.Get("continue"); v != "" {
		n, err := strconv.ParseUint(v, 36, 64)
		if err != nil {
			http.Error(w, "continue is what the page before has so", http.StatusBadRequest)
			return
		}
		at = session.Position(n)
	}
	may := watcher{s: s, r: r, known: map[*session.Class]bool{}}
	if status := may.somebody(); status != 0 {
		s.metrics.refused(whyCredentials)
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="rollcall"`)
		}
		http.Error(w, "a bearer token, or over TLS a client certificate, is needed of who may watch", status)
		return
	}
	namespace, presence, client := q.Get("namespace"), q.Get("presence"), q.Get("client")
	page := sessionPage{Server: s.name, Incarnation: s.cfg.Incarnation, Sessions: []sessionItem{}}
	now, tick := time.Now(), s.clock.Stamp().Tick
	next := s.table.Walk(at, lookedAt, func(v session.View[peer]) bool {
		c := v.Class
		if c.Probe || namespace != "" && c.Namespace != namespace || presence != "" && c.Presence != presence ||
			!strings.HasPrefix(v.Client, client) || !may.watch(c) {
			return true
		}
		page.Sessions = append(page.Sessions, sessionItem{
			Namespace: c.Namespace, Presence: c.Presence, Client: v.Client, Since: v.Began, Interval: v.Interval.Milliseconds(),
			LastBeat: now.Add(-time.Duration(int32(tick-v.LastBeat)) * session.TickLength).UnixMilli(), Connected: v.Link != nil,
		})
		return len(page.Sessions) < limit
	})
	if next != 0 {
		page.Continue = strconv.FormatUint(uint64(next), 36)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(page)
}

// watcher is whoever asks, and what they may watch: each Presence is asked for once.
type watcher struct {
	s     *Server
	r     *http.Request
	known map[*session.Class]bool
}

// somebody is 0 where the credential is somebody's, else the status to answer with.
func (x *watcher) somebody() int {
	_, err := x.authenticate("", "")
	switch {
	case errors.Is(err, ErrCredentials):
		return http.StatusUnauthorized
	case err != nil:
		return http.StatusServiceUnavailable
	}
	return 0
}

func (x *watcher) watch(c *session.Class) bool {
	may, ok := x.known[c]
	if !ok {
		p, err := x.authenticate(c.Namespace, c.Presence)
		may = err == nil && p.Rights.Has(Watch)
		x.known[c] = may
	}
	return may
}

// authenticate asks who they are to a Presence. Without a client's id and a kind it is
// their right to watch that is asked for, and no other.
func (x *watcher) authenticate(namespace, presence string) (Principal, error) {
	return x.s.cfg.Authenticator.Authenticate(x.r.Context(), Credentials{
		Namespace: namespace, Presence: presence, Password: []byte(bearer(x.r)), RemoteAddr: x.r.RemoteAddr, Certificate: shown(x.r.TLS),
	})
}
