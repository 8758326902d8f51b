// Package explain answers a person's questions over HTTP: what is held of a
// server and why (/judgement), and where a client is (/sessions). It judges
// nothing, keeps nothing and changes nothing: it words what the judge holds, and
// asks internal/verdict what other evidence would have changed.
//
// Whoever reaches the address may ask. So a client has to be named in full,
// nothing is listed, and neither principals nor attributes are told.
package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// The paths, and their parameters.
const (
	// JudgementPath takes server=NAMESPACE/POD and answers a Judgement.
	JudgementPath = "/judgement"
	// SessionsPath takes client=ID and any number of presence=NAMESPACE/NAME
	// (none: all Presences of clients), and answers Sessions.
	SessionsPath = "/sessions"
)

// readWithin bounds how long a question waits for the store.
const readWithin = 5 * time.Second

// Explanation is what the judge holds of one server, as of its last judgement.
type Explanation struct {
	// Presence is "namespace/name", and Mode its failover mode.
	Presence, Mode string
	// What went into the judgement, and what came out.
	World    verdict.World
	Policy   verdict.ServerPolicy
	Evidence verdict.ServerEvidence
	Verdict  verdict.Verdict
	// Brake is the one in force for this Presence.
	Brake verdict.Brake
}

// Explainer is what the judge has to offer.
type Explainer interface {
	// Explain is false for a server that is not judged.
	Explain(server string) (Explanation, bool)
}

// Finder finds the sessions of one client.
type Finder interface {
	// Find looks under each of these Presences, "namespace/name"; under none
	// given, under all Presences of clients. What it doesn't find it leaves out.
	Find(ctx context.Context, client string, presences []string) ([]Session, error)
}

// Config of a Handler; every field is needed.
type Config struct {
	Judge    Explainer
	Sessions Finder
	// ID is this replica's name, Leading tells whether it leads.
	ID      string
	Leading func() bool
}

func (c Config) validate() error {
	if c.Judge == nil || c.Sessions == nil || c.ID == "" || c.Leading == nil {
		return errors.New("explain: every field of Config is needed")
	}
	return nil
}

// Handler answers questions.
type Handler struct{ cfg Config }

// New makes a Handler.
func New(cfg Config) (*Handler, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Handler{cfg}, nil
}

// Register adds both paths.
func (h *Handler) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+JudgementPath, h.judgement)
	mux.HandleFunc("GET "+SessionsPath, h.sessions)
}

// Refusal is the body of every answer but 200.
type Refusal struct {
	// Refused says why there is no answer, in one sentence.
	Refused string `json:"refused"`
}

func (h *Handler) judgement(w http.ResponseWriter, r *http.Request) {
	server := r.URL.Query().Get("server")
	if namespace, pod, ok := strings.Cut(server, "/"); !ok || namespace == "" || pod == "" || strings.Contains(pod, "/") {
		refuse(w, http.StatusBadRequest, "server must be given as NAMESPACE/POD")
		return
	}
	x, ok := h.cfg.Judge.Explain(server)
	if !ok {
		refuse(w, http.StatusNotFound, fmt.Sprintf("controller %s judges no server %s: no honoured Presence selects it, or this controller has just begun", h.cfg.ID, server))
		return
	}
	j := Of(x)
	j.Controller, j.Leading = h.cfg.ID, h.cfg.Leading()
	answer(w, http.StatusOK, j)
}

func (h *Handler) sessions(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	client := query.Get("client")
	if !wire.ValidClientID(client) {
		refuse(w, http.StatusBadRequest, "client must be the id of a client: at most 128 of A-Z, a-z, 0-9, dot, underscore, colon and dash")
		return
	}
	for _, p := range query["presence"] {
		if _, _, err := wire.ParseUserName(p); err != nil {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("presence %q is not NAMESPACE/NAME", p))
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), readWithin)
	defer cancel()
	found, err := h.cfg.Sessions.Find(ctx, client, query["presence"])
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("the sessions could not be read: %v", err))
		return
	}
	s := Sessions{Client: client, Controller: h.cfg.ID, Sessions: found}
	for i := range s.Sessions {
		if x, ok := h.cfg.Judge.Explain(s.Sessions[i].Server); ok {
			s.Sessions[i].ServerState = string(x.Verdict.State)
		}
	}
	answer(w, http.StatusOK, s)
}

func refuse(w http.ResponseWriter, status int, why string) { answer(w, status, Refusal{why}) }

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(body) // who asked has gone
}
