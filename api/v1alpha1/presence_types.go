package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Presence is one population (nodes, servers or clients), how its members
// prove that they live, and what to do when they don't.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=prs,categories=rollcall
// +kubebuilder:printcolumn:name="Subject",type=string,JSONPath=`.status.subject`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.status.mode`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.counts.members`
// +kubebuilder:printcolumn:name="Alive",type=integer,JSONPath=`.status.counts.alive`
// +kubebuilder:printcolumn:name="Suspect",type=integer,JSONPath=`.status.counts.suspect`
// +kubebuilder:printcolumn:name="Overloaded",type=integer,JSONPath=`.status.counts.overloaded`
// +kubebuilder:printcolumn:name="Dead",type=integer,JSONPath=`.status.counts.dead`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Healthy",type=string,JSONPath=`.status.conditions[?(@.type=="Healthy")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Presence struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec PresenceSpec `json:"spec"`
	// +optional
	Status PresenceStatus `json:"status,omitempty,omitzero"`
}

// PresenceList is a list of Presences.
//
// +kubebuilder:object:root=true
type PresenceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Presence `json:"items"`
}

// PresenceSpec names exactly one population; each subject carries its policy.
//
// +kubebuilder:validation:XValidation:rule="[has(self.nodes), has(self.servers), has(self.clients)].filter(x, x).size() == 1",message="exactly one of spec.nodes, spec.servers and spec.clients must be set"
// +kubebuilder:validation:XValidation:rule="has(self.nodes) == has(oldSelf.nodes) && has(self.servers) == has(oldSelf.servers) && has(self.clients) == has(oldSelf.clients)",message="the subject of a Presence cannot be changed: delete it and create another"
type PresenceSpec struct {
	// Nodes watches machines. Honoured in the installation's namespace only.
	// +optional
	Nodes *NodesSpec `json:"nodes,omitempty"`
	// Servers watches pods that clients are connected to.
	// +optional
	Servers *ServersSpec `json:"servers,omitempty"`
	// Clients admits clients to the heartbeat servers under this Presence's name.
	// +optional
	Clients *ClientsSpec `json:"clients,omitempty"`
}

// FailoverMode says what is done about a verdict.
//
// +kubebuilder:validation:Enum=Automatic;Advise;Off
type FailoverMode string

// The modes of a failover.
const (
	// ModeAutomatic moves clients.
	ModeAutomatic FailoverMode = "Automatic"
	// ModeAdvise plans and records, and moves nothing. The default.
	ModeAdvise FailoverMode = "Advise"
	// ModeOff judges, and plans nothing.
	ModeOff FailoverMode = "Off"
)

// ServersSpec selects the servers of a Presence and says when they count as
// overloaded, and what to do then.
type ServersSpec struct {
	// Selector picks pods of the Presence's own namespace.
	// +required
	Selector metav1.LabelSelector `json:"selector"`
	// Port is the name or number of the container port that clients use.
	// +required
	Port intstr.IntOrString `json:"port"`
	// Probe is how observers time the servers.
	// +kubebuilder:default={mqtt: {}}
	// +optional
	Probe ProbeSpec `json:"probe,omitempty,omitzero"`
	// Overload says when a server that is TCP-alive counts as overloaded.
	// +kubebuilder:default={}
	// +optional
	Overload OverloadSpec `json:"overload,omitempty,omitzero"`
	// Failover says what is done about a server that is overloaded or dead.
	// +kubebuilder:default={}
	// +optional
	Failover FailoverPolicy `json:"failover,omitempty,omitzero"`
}

// ProbeSpec is a union: exactly one kind of probe.
//
// +kubebuilder:validation:XValidation:rule="[has(self.mqtt)].filter(x, x).size() == 1",message="exactly one kind of probe must be set: mqtt"
type ProbeSpec struct {
	// MQTT keeps a session on the server and pings it.
	// +optional
	MQTT *MQTTProbe `json:"mqtt,omitempty"`
}

// MQTTProbe has no settings yet.
type MQTTProbe struct{}

// OverloadSpec bounds how late a server's answers may be.
type OverloadSpec struct {
	// AnswerTime is the longest time in which a healthy server answers a probe.
	// +kubebuilder:default="500ms"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('60s')",message="overload.answerTime must be from 10ms to 60s"
	// +optional
	AnswerTime metav1.Duration `json:"answerTime,omitempty,omitzero"`
	// Window is how long answers must be late before a server counts as slow.
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('200ms') && duration(self) <= duration('5m')",message="overload.window must be from 200ms to 5m"
	// +optional
	Window metav1.Duration `json:"window,omitempty,omitzero"`
	// Recovery is how long real answers must be in time before a server that
	// was overloaded or dead is trusted again.
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="overload.recovery must be from 1s to 1h"
	// +optional
	Recovery metav1.Duration `json:"recovery,omitempty,omitzero"`
	// Observers is how many agents probe each server, from distinct zones
	// where there are as many.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=9
	// +optional
	Observers int32 `json:"observers,omitempty"`
}

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
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 : self.matches('^([1-9][0-9]?|100)%$')",message="failover.maxServers must be a number of at least 1, or from 1% to 100%"
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
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 : self.matches('^([1-9][0-9]?|100)%$')",message="failover.minHealthy must be a number of at least 1, or from 1% to 100%"
	// +optional
	MinHealthy intstr.IntOrString `json:"minHealthy,omitempty,omitzero"`
}

// NodesSpec selects nodes and says what is done about dead ones.
type NodesSpec struct {
	// Selector picks nodes by label; empty picks all.
	// +kubebuilder:default={}
	// +optional
	Selector metav1.LabelSelector `json:"selector,omitempty,omitzero"`
	// OnDead says what is done about a node held dead.
	// +kubebuilder:default={}
	// +optional
	OnDead OnDeadPolicy `json:"onDead,omitempty,omitzero"`
}

// OnDeadMode says what is done about a dead node.
//
// +kubebuilder:validation:Enum=Advise;Taint;Off
type OnDeadMode string

// The modes of onDead.
const (
	OnDeadAdvise OnDeadMode = "Advise"
	// OnDeadTaint taints it rollcall.dev/unreachable:NoExecute.
	OnDeadTaint OnDeadMode = "Taint"
	OnDeadOff   OnDeadMode = "Off"
)

// OnDeadPolicy says what is done about a dead node.
type OnDeadPolicy struct {
	// +kubebuilder:default=Advise
	// +optional
	Mode OnDeadMode `json:"mode,omitempty"`
}

// ClientsSpec bounds the heartbeat of a population of clients.
type ClientsSpec struct {
	// Interval bounds how often clients beat.
	// +kubebuilder:default={}
	// +optional
	Interval IntervalBounds `json:"interval,omitempty,omitzero"`
	// MissesUntilLate is how many intervals may pass without a beat before a
	// client counts as Late.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MissesUntilLate int32 `json:"missesUntilLate,omitempty"`
	// MissesUntilOffline is how many times 1.5 intervals may pass without a
	// beat (plus Grace) before a client is Offline.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MissesUntilOffline int32 `json:"missesUntilOffline,omitempty"`
	// Grace is added to the lease of every session.
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1h')",message="clients.grace must be from 0s to 1h"
	// +optional
	Grace *metav1.Duration `json:"grace,omitempty"`
	// Retention is how long an offline record, with its last-seen time, is kept.
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="clients.retention must be from 1m to 720h"
	// +optional
	Retention metav1.Duration `json:"retention,omitempty,omitzero"`
}

// IntervalBounds bounds the interval that a client may declare.
//
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || duration(self.min) <= duration(self.max)",message="clients.interval.min must not exceed clients.interval.max"
type IntervalBounds struct {
	// Min is the shortest interval; a client that asks for less is given this.
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('18h')",message="clients.interval.min must be from 1s to 18h"
	// +optional
	Min metav1.Duration `json:"min,omitempty,omitzero"`
	// Max is the longest interval; a client that asks for more, or for none, is given this.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('18h')",message="clients.interval.max must be from 1s to 18h"
	// +optional
	Max metav1.Duration `json:"max,omitempty,omitzero"`
}

// PresenceStatus is what the controller last said of the population. It holds
// counts, conditions and a bounded list: never a heartbeat, never all members.
type PresenceStatus struct {
	// ObservedGeneration is the generation that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Subject is Nodes, Servers or Clients.
	// +optional
	Subject string `json:"subject,omitempty"`
	// Mode repeats the policy's mode, for the table.
	// +optional
	Mode string `json:"mode,omitempty"`
	// Reason is the first reason that the population is not healthy, if any.
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Counts PresenceCounts `json:"counts,omitempty,omitzero"`
	// NotAlive lists at most 32 members that are not alive.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	// +optional
	NotAlive []MemberStatus `json:"notAlive,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PresenceCounts counts members by state. docs/spec maps every state to its column.
type PresenceCounts struct {
	// +optional
	Members int32 `json:"members"`
	// +optional
	Alive int32 `json:"alive"`
	// +optional
	Suspect int32 `json:"suspect"`
	// Overloaded is absent where the subject is not Servers.
	// +optional
	Overloaded *int32 `json:"overloaded,omitempty"`
	// +optional
	Dead int32 `json:"dead"`
}

// MemberStatus is one member that is not alive.
type MemberStatus struct {
	Name string `json:"name"`
	// State is a state of the verdict package: Suspect, Overloaded, Dead, Unknown…
	State string `json:"state"`
	// Since is when the member entered the state.
	// +optional
	Since metav1.MicroTime `json:"since,omitempty,omitzero"`
	// Message is the verdict in words, with the evidence that decided it.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}
