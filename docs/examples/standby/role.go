package main

import "github.com/rollcall-dev/rollcall/client"

// role decides which of two members is the primary: whoever is here while the
// other is not. It is pure, and may be wrong for a while, as everybody may whose
// word comes over a network; the ledger is never.
type role struct {
	other string

	// told: who is here is known. here: the other one is.
	told, here bool
	// seen is the greatest revision that was told. What comes later has a greater
	// one, so it is the fencing token of who becomes the primary now.
	seen int64
	// token of the primary; 0: standby.
	token int64
}

// see takes what a Watch tells.
func (r *role) see(c client.Change) {
	r.seen = max(r.seen, c.Revision)
	switch c.Client {
	case "":
		r.told = true
	case r.other:
		r.here = c.Online
	}
	if r.told && !r.here && r.token == 0 {
		r.token = r.seen
	}
}

// begin takes that who is here is asked anew.
func (r *role) begin() { r.told, r.here = false, false }

// stepDown: others may have taken this member for gone, or a write was refused.
// It stays a standby until it is told anew that the other one is not here.
func (r *role) stepDown() {
	r.begin()
	r.token = 0
}
