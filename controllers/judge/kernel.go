package judge

import (
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// kernel is what a server's kernel says; nobody asks those of heartbeat servers.
func (j *Judge) kernel(spec *v1alpha1.ServersSpec, p Pod, node string) verdict.Kernel {
	if spec.Probe.Heartbeats() {
		return verdict.Kernel{Connections: -1}
	}
	return j.cfg.Book.Kernel(p.Name, node, string(p.UID))
}

// Kernels are what the kernels of Servers say of them, by name; nil: nobody is to
// ask them.
func (p *Population) Kernels() map[string]verdict.Kernel {
	if p.Subject != v1alpha1.SubjectServers || p.Presence.Spec.Servers.Probe.Heartbeats() {
		return nil
	}
	all := make(map[string]verdict.Kernel, len(p.evidence))
	for name, e := range p.evidence {
		all[name] = e.Kernel
	}
	return all
}
