package main

import "fmt"

// figures are what the last line of --once says, in seconds since the fault.
// A time that never came is -1.
type figures struct {
	Fault             string  `json:"fault"`
	VerdictSeconds    float64 `json:"verdictSeconds"`
	FirstMovedSeconds float64 `json:"firstMovedSeconds"`
	AllMovedSeconds   float64 `json:"allMovedSeconds"`
	Clients           int     `json:"clients"`
	// Affected clients were on the server when the fault came.
	Affected int `json:"affected"`
	// Offline counts clients that were ever declared Offline.
	Offline int `json:"offline"`
	// StaleWrites counts records that the server wrote after it woke, for
	// clients that had not come back to it.
	StaleWrites int `json:"staleWrites"`
	// MaxReceiverLoad is the peak of any receiver over the receivers' mean.
	MaxReceiverLoad float64 `json:"maxReceiverLoad"`
	MovedBy         movedBy `json:"movedBy"`
	// BackSeconds is when, since it was mended, the server had its share again.
	BackSeconds float64 `json:"backSeconds"`
	BackClients int     `json:"backClients"`
}

type movedBy struct {
	Directive  int `json:"directive"`
	OwnTimeout int `json:"ownTimeout"`
	Severed    int `json:"severed"`
}

// The bars, from the design's table of numbers.
const (
	barVerdict      = 2.0
	barFirstMoved   = 3.0
	barAllMoved     = 8.0
	barReceiverLoad = 1.25
	barDirected     = 0.9 // of a slow server's clients
)

// missed lists the figures that miss their bars.
func (f figures) missed(o options) []string {
	var m []string
	miss := func(format string, args ...any) { m = append(m, fmt.Sprintf(format, args...)) }
	within := func(name string, got, bar float64) {
		if got < 0 {
			miss("%s never came", name)
		} else if got > bar {
			miss("%s %.2f > %.2f", name, got, bar)
		}
	}
	if f.Offline > 0 {
		miss("offline %d > 0", f.Offline)
	}
	if f.StaleWrites > 0 {
		miss("staleWrites %d > 0", f.StaleWrites)
	}
	if o.withoutController && o.fault == faultSlow {
		// Nobody is there to decide, and no client's own time-out is reached.
		if n := f.MovedBy.Directive + f.MovedBy.OwnTimeout + f.MovedBy.Severed; n > 0 || f.FirstMovedSeconds >= 0 {
			miss("%d clients were moved while there was no controller", n)
		}
		return m
	}
	if !o.withoutController {
		within("verdictSeconds", f.VerdictSeconds, barVerdict)
	}
	within("firstMovedSeconds", f.FirstMovedSeconds, barFirstMoved)
	within("allMovedSeconds", f.AllMovedSeconds, barAllMoved)
	if f.MaxReceiverLoad > barReceiverLoad {
		miss("maxReceiverLoad %.2f > %.2f", f.MaxReceiverLoad, barReceiverLoad)
	}
	if o.fault == faultSlow && float64(f.MovedBy.Directive) < barDirected*float64(f.Affected) {
		miss("movedBy.directive %d is under 90%% of %d", f.MovedBy.Directive, f.Affected)
	}
	if !o.withoutController && f.BackSeconds < 0 {
		miss("the server never got its share back (%d clients)", f.BackClients)
	}
	return m
}
