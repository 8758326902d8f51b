package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// FailoverPolicy bounds what is done about servers that don't answer.
type FailoverPolicy struct {
	// Mode: Automatic moves clients; Advise records what it would do; Off.
	// +kubebuilder:default=Advise
	// +optional
	Mode FailoverMode `json:"mode,omitempty"`
	// MaxServers is how many servers may be out at once, as a number or a
	// share of all; at least one.
	// +kubebuilder:default="10%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 1000 : self.matches('^([1-9][0-9]?|100)%$')",message="failover.maxServers must be a number from 1 to 1000, or a share from 1% to 100%, such as 10%"
	// +optional
	MaxServers intstr.IntOrString `json:"maxServers,omitempty,omitzero"`
	// ClientsPerSecond is the pace at which clients are moved, to begin with.
	// +kubebuilder:default=500
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +optional
	ClientsPerSecond int32 `json:"clientsPerSecond,omitempty"`
	// MinHealthy is the share of servers that must be healthy for anything to
	// be moved at all.
	// +kubebuilder:default="50%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 1000 : self.matches('^([1-9][0-9]?|100)%$')",message="failover.minHealthy must be a number from 1 to 1000, or a share from 1% to 100%, such as 50%"
	// +optional
	MinHealthy intstr.IntOrString `json:"minHealthy,omitempty,omitzero"`
	// Divert says how new clients are led past a server that is taken out; other than
	// Label for servers that are not heartbeat servers.
	// +kubebuilder:default=Label
	// +optional
	Divert DivertMode `json:"divert,omitempty"`
	// Sever says what is done about the connections of a server that does not
	// move its clients itself.
	// +kubebuilder:default={}
	// +optional
	Sever SeverPolicy `json:"sever,omitempty,omitzero"`
	// Restart, where it is set, has a server that stays overloaded evicted, as the
	// last resort.
	// +optional
	Restart *RestartPolicy `json:"restart,omitempty"`
}

// DivertMode says how new clients are led past a server that is taken out.
//
// +kubebuilder:validation:Enum=Label;ReadinessGate;None
type DivertMode string

// The ways of diverting.
const (
	// DivertLabel turns the label AcceptingLabel of the server's pod to "false", which
	// its Services select the other value of. The default.
	DivertLabel DivertMode = "Label"
	// DivertReadinessGate sets the condition AcceptingGate of the server's pod to False,
	// so that the pod is not Ready: for pods that carry the readiness gate. Services
	// need no change. The controller needs the right to write the status of pods:
	// controller.readinessGates in the chart.
	DivertReadinessGate DivertMode = "ReadinessGate"
	// DivertNone leads nobody past a server, so that nobody is moved either.
	DivertNone DivertMode = "None"
)

// RestartPolicy says when a server is evicted that has been taken out, has had its
// Failover, and still doesn't answer: by the Eviction API, so that disruption budgets
// hold. The controller must have been given that right (controller.evictServers).
type RestartPolicy struct {
	// After is how long the server must have been overloaded without a break.
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') && duration(self) >= duration('10s') && duration(self) <= duration('24h')",message="failover.restart.after must be a duration from 10s to 24h, such as 60s"
	// +required
	After metav1.Duration `json:"after"`
}

// SeverMode says whether connections are ended from outside a server.
//
// +kubebuilder:validation:Enum=Off;Paced
type SeverMode string

// The modes of severing.
const (
	// SeverOff ends no connection. The default.
	SeverOff SeverMode = "Off"
	// SeverPaced has the severer on the server's node end connections, a few at a time.
	SeverPaced SeverMode = "Paced"
)

// SeverPolicy says whether the connections of a server whose clients are moved,
// and that does nothing about it itself, are ended by its node's kernel. That
// takes the severer too, which the installation runs or does not (agent.sever.enabled).
type SeverPolicy struct {
	// Mode: Paced ends them at the Failover's pace; Off ends none.
	// +kubebuilder:default=Off
	// +optional
	Mode SeverMode `json:"mode,omitempty"`
	// ClientsPerSecond bounds the pace of that, where it should be slower than
	// the Failover's; absent: it is the Failover's.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +optional
	ClientsPerSecond *int32 `json:"clientsPerSecond,omitempty"`
}
