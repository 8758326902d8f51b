package sim

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/cgroup"
)

const (
	// sampleCalm, sampleUneasy and sampleOver are those of agent/sampler: how often
	// cgroups are looked at, and over what time they are judged.
	sampleCalm, sampleUneasy, sampleOver = time.Second, 500 * time.Millisecond, 2 * time.Second
	// sampleReport is how long a report takes on its way to the store.
	sampleReport = 20 * time.Millisecond
)

// sampler looks at the cgroup of one server, by the real rules, as if the server
// wanted to run all the time: what keeps it from running is its CPU limit.
type sampler struct {
	s     *server
	meter cgroup.Meter
	said  cgroup.Strain
}

func (k *sampler) handle(int, int64) {
	w := k.s.w
	kept := k.s.kept - max(k.s.stalled-w.now, 0)
	strain := k.meter.See(epoch.Add(w.now), cgroup.Counters{Used: w.now - kept, Throttled: kept}, sampleOver, k.said.Kind)
	if strain.Kind != k.said.Kind {
		w.after(sampleReport, func() { w.etcd.publish(func(b *book) { b.putStrain(k.s.id, strain) }) })
	}
	k.said = strain
	wait := sampleCalm
	if strain.Rising {
		wait = sampleUneasy
	}
	w.at(w.now+wait, k, 0, 0)
}

// putStrain is what a server's cgroup says.
func (b *book) putStrain(server int, s cgroup.Strain) {
	k := &b.servers[server].Kernel
	k.Online, k.Healthy, k.Strain, k.StrainDetail = true, true, string(s.Kind), ""
	if s.Kind != "" {
		k.StrainDetail = s.String()
	}
}
