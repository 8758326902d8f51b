package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
)

// ledger is what primaries write to. It refuses whoever has been overtaken:
// fencing is the work of what is written to, because a primary that was stopped
// does not know that it was.
type ledger struct {
	mu      sync.Mutex
	token   int64
	holder  string
	entries []entry
	refused map[string]int // by writer
}

type entry struct {
	holder, value string
	token         int64
}

// write appends a value, unless a greater token has been seen, or the same one
// from somebody else.
func (l *ledger) write(holder string, token int64, value string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token < l.token || token == l.token && holder != l.holder && l.holder != "" {
		if l.refused == nil {
			l.refused = map[string]int{}
		}
		l.refused[holder]++
		return false
	}
	l.token, l.holder = token, holder
	l.entries = append(l.entries, entry{holder, value, token})
	return true
}

// ServeHTTP takes PUT ?holder=…&token=…&value=…
func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	token, err := strconv.ParseInt(q.Get("token"), 10, 64)
	switch {
	case r.Method != http.MethodPut || err != nil:
		http.Error(w, "PUT ?holder=NAME&token=NUMBER&value=TEXT", http.StatusBadRequest)
	case !l.write(q.Get("holder"), token, q.Get("value")):
		http.Error(w, fmt.Sprintf("%s has been overtaken", q.Get("holder")), http.StatusConflict)
	}
}
