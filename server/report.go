package server

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// reportWithin bounds a report's way to the store.
	reportWithin = 5 * time.Second
	// maxReporters is how many peers may have reports under way.
	maxReporters = 256
)

// reports are a peer's reports on their way to the store, one after the other,
// away from the goroutine that answers its beats.
type reports struct {
	mu      sync.Mutex
	waiting []reported
	running bool
}

type reported struct {
	publish mqtt.Publish
	report  wire.Report
}

// report takes a report, and acknowledges it once it is in the store.
func (p *peer) report(pub mqtt.Publish) {
	if !p.rights.Has(Report) {
		p.acknowledge(pub, &refusal{why: whyUnauthorized, reason: mqtt.NotAuthorized, detail: "no right to report"})
		return
	}
	var r wire.Report
	if err := json.Unmarshal(pub.Payload, &r); err != nil || r.Node == "" {
		p.acknowledge(pub, &refusal{why: whyPayload, reason: mqtt.PayloadFormatInvalid, detail: "not a report"})
		return
	}
	if node := p.key().Client; node != r.Node && !strings.HasPrefix(node, r.Node+":") {
		p.acknowledge(pub, &refusal{why: whyUnauthorized, reason: mqtt.NotAuthorized, detail: "a report on behalf of another node"})
		return
	}
	pub.Payload = nil // it shares memory with what is read next
	q := &p.extra().reports
	q.mu.Lock()
	defer q.mu.Unlock()
	start := !q.running
	if len(q.waiting) >= receiveMaximum || start && p.s.reporters.Add(1) > maxReporters {
		if start {
			p.s.reporters.Add(-1)
		}
		p.acknowledge(pub, &refusal{why: whyBusy, reason: mqtt.QuotaExceeded, detail: "too many reports are under way"})
		return
	}
	q.waiting = append(q.waiting, reported{pub, r})
	if start {
		q.running = true
		p.s.background.Go(p.write)
	}
}

// write writes a peer's reports until none is left.
func (p *peer) write() {
	defer p.s.reporters.Add(-1)
	for {
		q := &p.more.reports
		q.mu.Lock()
		if len(q.waiting) == 0 || p.leaving.Load() {
			q.running, q.waiting = false, nil
			q.mu.Unlock()
			return
		}
		next := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()

		ctx, cancel := context.WithTimeout(p.s.ctx(), reportWithin)
		err := p.s.cfg.Store.PutReport(ctx, next.report)
		cancel()
		if err != nil {
			p.s.log.Warn("Report could not be written", "node", next.report.Node, "error", err)
		}
		p.written(next.publish, err)
	}
}

// written answers a report. A client of version 3.1.1 that gets no PUBACK sends
// it again when it has reconnected.
func (p *peer) written(pub mqtt.Publish, err error) {
	a := mqtt.Puback{PacketID: pub.PacketID}
	if err != nil {
		p.s.metrics.refused(whyStore)
		if p.version != mqtt.V5 {
			p.bye(nil)
			return
		}
		a.Reason = mqtt.UnspecifiedError
	}
	if pub.QoS > 0 {
		p.s.send(p, a.Append(nil, p.version, p.limit), time.Time{}, false)
	}
}
