package quarantine

import (
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/permission"
)

// permitted tells whether nodes may be patched, as far as it is known, which not every
// installation is given. It returns at once.
func (w *Warden) permitted(t *lead.Tenure) bool {
	return w.may.Granted(t.Context, permission.Question{
		Verb: "patch", Resource: "nodes", Operation: "mayTaint", Remedy: "controller.taintNodes=true in the chart",
		Client: w.Client, Once: w.Once, Logger: w.Logger, Now: w.Now,
	})
}
