// Package cost measures what Rollcall costs on a node: its parts there as processes
// of their own, before real heartbeat servers, a real etcd and a real kube-apiserver,
// and pods that are network namespaces with real connections. `make bench-agent` runs it.
package cost
