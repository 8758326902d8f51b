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
// +kubebuilder:printcolumn:name="Connections",type=integer,priority=1,JSONPath=`.status.counts.connections`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Healthy",type=string,JSONPath=`.status.conditions[?(@.type=="Healthy")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name must be at most 63 characters: clients send it in their MQTT user name, and it is part of every session's key"
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
// +kubebuilder:validation:XValidation:rule="[has(self.nodes), has(self.servers), has(self.clients)].filter(x, x).size() == 1",message="exactly one of spec.nodes, spec.servers and spec.clients must be set: make a Presence for each population"
// +kubebuilder:validation:XValidation:rule="has(self.nodes) == has(oldSelf.nodes) && has(self.servers) == has(oldSelf.servers) && has(self.clients) == has(oldSelf.clients)",message="spec.nodes, spec.servers or spec.clients, whichever was set, cannot be exchanged for another: delete this Presence and create one"
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
	// ModeOff judges, and plans nothing. Status and counts go on.
	ModeOff FailoverMode = "Off"
)

// ServersSpec selects the servers of a Presence and says when they count as
// overloaded, and what to do then.
//
// +kubebuilder:validation:XValidation:rule="!has(self.failover) || !has(self.failover.divert) || self.failover.divert == 'Label' || has(self.probe) && !has(self.probe.mqtt)",message="failover.divert must be Label for heartbeat servers (probe.mqtt), which their Service selects by their label: ReadinessGate and None are for servers probed by http, grpc or tcp",fieldPath=".failover.divert"
type ServersSpec struct {
	// Selector picks pods of the Presence's own namespace. It must not be empty.
	// +kubebuilder:validation:XValidation:rule="has(self.matchLabels) && self.matchLabels.size() > 0 || has(self.matchExpressions) && self.matchExpressions.size() > 0",message="servers.selector must not be empty: name a label of the server pods, such as matchLabels: {app: broker}"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator == 'In' || e.operator == 'NotIn' ? has(e.values) && e.values.size() > 0 : (e.operator == 'Exists' || e.operator == 'DoesNotExist') && (!has(e.values) || e.values.size() == 0))",message="servers.selector.matchExpressions: the operator must be In or NotIn with values, or Exists or DoesNotExist without"
	// +required
	Selector metav1.LabelSelector `json:"selector"`
	// Port is the name or number of the container port that clients use.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 65535 : self.matches('^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$') && self.matches('[a-z]')",message="servers.port must be a container port: its name (at most 15 of a-z, 0-9 and -, with a letter) or its number, from 1 to 65535"
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

// OverloadSpec bounds how late a server's answers may be.
type OverloadSpec struct {
	// AnswerTime is the longest time in which a healthy server answers a probe.
	// +kubebuilder:default="500ms"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') && duration(self) >= duration('10ms') && duration(self) <= duration('60s')",message="overload.answerTime must be a duration from 10ms to 60s, such as 500ms"
	// +optional
	AnswerTime metav1.Duration `json:"answerTime,omitempty,omitzero"`
	// Window is how long answers must be late before a server counts as slow.
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') && duration(self) >= duration('200ms') && duration(self) <= duration('5m')",message="overload.window must be a duration from 200ms to 5m, such as 1s"
	// +optional
	Window metav1.Duration `json:"window,omitempty,omitzero"`
	// Recovery is how long real answers must be in time before a server that
	// was overloaded or dead is trusted again.
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') && duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="overload.recovery must be a duration from 1s to 1h, such as 5s"
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

// NodesSpec selects nodes and says what is done about dead ones.
type NodesSpec struct {
	// Selector picks nodes by label; empty picks all.
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator == 'In' || e.operator == 'NotIn' ? has(e.values) && e.values.size() > 0 : (e.operator == 'Exists' || e.operator == 'DoesNotExist') && (!has(e.values) || e.values.size() == 0))",message="nodes.selector.matchExpressions: the operator must be In or NotIn with values, or Exists or DoesNotExist without"
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
// +kubebuilder:validation:Enum=Taint;Advise;Off
type OnDeadMode string

// The modes of onDead.
const (
	// OnDeadAdvise says so in the status. The default.
	OnDeadAdvise OnDeadMode = "Advise"
	// OnDeadTaint taints a dead node UnreachableTaint:NoExecute, so that its pods
	// are made anew elsewhere, and takes the taint off when it is back. Never more
	// nodes than the brake lets be lost, and none while it is on. The controller
	// needs the right to patch nodes: controller.taintNodes in the chart.
	OnDeadTaint OnDeadMode = "Taint"
	// OnDeadOff judges, and counts.
	OnDeadOff OnDeadMode = "Off"
)

// OnDeadPolicy says what is done about a dead node.
type OnDeadPolicy struct {
	// Mode: Taint makes its pods move; Advise says so in the status; Off only counts.
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
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') && duration(self) >= duration('0s') && duration(self) <= duration('1h')",message="clients.grace must be a duration from 0s to 1h, such as 5s"
	// +optional
	Grace *metav1.Duration `json:"grace,omitempty"`
	// Retention is how long an offline record, with its last-seen time, is kept.
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') && duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="clients.retention must be a duration from 1m to 720h, such as 24h"
	// +optional
	Retention metav1.Duration `json:"retention,omitempty,omitzero"`
	// SignedBeats has only beats count that their client has signed, with the
	// time by its own clock; absent: every packet is a beat. Clients must speak
	// MQTT 5: older versions have no way to be given a key.
	// +optional
	SignedBeats *SignedBeats `json:"signedBeats,omitempty"`
}

// SignedBeats says what signed beats must keep to.
type SignedBeats struct {
	// MaxSkew is how far a client's clock may be from the server's, either way,
	// the beat's way included.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms)){1,4}$') && duration(self) >= duration('1s') && duration(self) <= duration('10m')",message="clients.signedBeats.maxSkew must be a duration from 1s to 10m, such as 30s"
	// +optional
	MaxSkew metav1.Duration `json:"maxSkew,omitempty,omitzero"`
}

// IntervalBounds bounds the interval that a client may declare.
//
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || [self.min, self.max].exists(d, !d.matches('^([0-9]{1,5}(h|m|s)){1,3}$')) || duration(self.min) <= duration(self.max)",message="clients.interval.min must not exceed clients.interval.max: lower the one or raise the other"
// +kubebuilder:validation:XValidation:rule="!has(self.overrides) || !has(self.min) || !has(self.max) || [self.min, self.max].exists(d, !d.matches('^([0-9]{1,5}(h|m|s)){1,3}$')) || self.overrides.all(o, has(o.min) && !o.min.matches('^([0-9]{1,5}(h|m|s)){1,3}$') || has(o.max) && !o.max.matches('^([0-9]{1,5}(h|m|s)){1,3}$') || duration(has(o.min) ? o.min : self.min) <= duration(has(o.max) ? o.max : self.max))",message="clients.interval.overrides: of an override, with what it leaves out taken from clients.interval, min must not exceed max: lower the one or raise the other"
type IntervalBounds struct {
	// Min is the shortest interval; a client that asks for less is given this.
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s)){1,3}$') && duration(self) >= duration('1s') && duration(self) <= duration('18h')",message="clients.interval.min must be whole seconds from 1s to 18h, such as 30s"
	// +optional
	Min metav1.Duration `json:"min,omitempty,omitzero"`
	// Max is the longest interval; a client that asks for more, or for none, is given this.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s)){1,3}$') && duration(self) >= duration('1s') && duration(self) <= duration('18h')",message="clients.interval.max must be whole seconds from 1s to 18h, such as 10m"
	// +optional
	Max metav1.Duration `json:"max,omitempty,omitzero"`
	// Overrides are other bounds for clients that declare where they are. The
	// first that fits counts.
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	Overrides []IntervalOverride `json:"overrides,omitempty"`
}

// IntervalOverride bounds the interval of clients on one kind of network, in one
// region, or both.
//
// +kubebuilder:validation:XValidation:rule="has(self.network) || has(self.region)",message="an override needs a network, a region or both: without, it is clients.interval itself that says it"
// +kubebuilder:validation:XValidation:rule="has(self.min) || has(self.max)",message="an override needs a min, a max or both: else it changes nothing"
type IntervalOverride struct {
	// Network that a client declares: cell, wifi, wired, or another word; absent: any.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]+$`
	// +optional
	Network string `json:"network,omitempty"`
	// Region that a client declares, such as cn; absent: any.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]+$`
	// +optional
	Region string `json:"region,omitempty"`
	// Min is the shortest interval there; absent: clients.interval.min.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=18
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s)){1,3}$') && duration(self) >= duration('1s') && duration(self) <= duration('18h')",message="clients.interval.overrides[].min must be whole seconds from 1s to 18h, such as 30s"
	// +optional
	Min metav1.Duration `json:"min,omitempty,omitzero"`
	// Max is the longest interval there; absent: clients.interval.max.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=18
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s)){1,3}$') && duration(self) >= duration('1s') && duration(self) <= duration('18h')",message="clients.interval.overrides[].max must be whole seconds from 1s to 18h, such as 4m30s"
	// +optional
	Max metav1.Duration `json:"max,omitempty,omitzero"`
}

// The subjects of a Presence, as status.subject repeats them.
const (
	SubjectNodes   = "Nodes"
	SubjectServers = "Servers"
	SubjectClients = "Clients"
)

// Bounds past which the API server refuses a whole status, or a whole Failover:
// whoever writes one has to cut first.
const (
	// MaxNotAlive is how many members status.notAlive holds at most.
	MaxNotAlive = 32
	// MaxEvacuations is how many nodes status.evacuations holds at most.
	MaxEvacuations = 8
	// MaxMessage is how long a member's message and a Failover's evidence are at
	// most, in Unicode characters.
	MaxMessage = 1024
	// MaxAdvised is how many networks status.advisedIntervals holds at most.
	MaxAdvised = 40
	// MaxTargets is how many servers a Failover names as receivers at most.
	MaxTargets = 64
)

// PresenceStatus is what the controller last said of the population. It holds
// counts, conditions and a bounded list: never a heartbeat, never all members.
type PresenceStatus struct {
	// ObservedGeneration is the generation that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Subject says which subject the spec has, for the table.
	// +kubebuilder:validation:Enum=Nodes;Servers;Clients
	// +optional
	Subject string `json:"subject,omitempty"`
	// Mode repeats the policy's mode, for the table; absent for Clients, which
	// have none.
	// +kubebuilder:validation:Enum=Automatic;Taint;Advise;Off
	// +optional
	Mode string `json:"mode,omitempty"`
	// Reason is that of the first condition which isn't as it should be, of
	// Accepted, Ready and Healthy, for the table; absent while all are.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`
	// Counts says how many members there are in each column of the table.
	// +optional
	Counts PresenceCounts `json:"counts,omitempty,omitzero"`
	// NotAlive lists at most 32 nodes or servers that are not alive; clients
	// are never listed.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	// +optional
	NotAlive []MemberStatus `json:"notAlive,omitempty"`
	// Evacuations are the nodes that were tainted last, at most 8, and how long
	// their pods took to be elsewhere.
	// +listType=map
	// +listMapKey=node
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Evacuations []Evacuation `json:"evacuations,omitempty"`
	// AdvisedIntervals are, for each kind of network, the longest interval that
	// connections survive there, as clients report it: what to set as
	// clients.interval.max, or as the max of an override. Networks of which too
	// little is reported are left out.
	// +listType=map
	// +listMapKey=network
	// +kubebuilder:validation:MaxItems=40
	// +optional
	AdvisedIntervals []AdvisedInterval `json:"advisedIntervals,omitempty"`
	// Conditions are Accepted, Ready, Healthy, Frozen, FewObservers, Calibrating,
	// KernelAsked and Diverted.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PresenceCounts counts members by column of the table; docs/spec/presence.md
// maps every state to its column. Members is the sum of the others.
type PresenceCounts struct {
	// Members is how many there are, whatever their state.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Members int32 `json:"members"`
	// Alive: Alive nodes and servers, Online clients.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Alive int32 `json:"alive"`
	// Suspect: Suspect or Unknown nodes and servers, nodes that are AgentDown,
	// Isolated or Silent, Late or Orphaned clients.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Suspect int32 `json:"suspect"`
	// Overloaded servers; absent where the subject is not Servers.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Overloaded *int32 `json:"overloaded,omitempty"`
	// Connections of clients to servers that are not heartbeat servers, as their
	// kernels count them; absent: nobody has.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Connections *int32 `json:"connections,omitempty"`
	// Dead nodes and servers.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Dead int32 `json:"dead"`
}

// AdvisedInterval is what clients on one kind of network have reported.
type AdvisedInterval struct {
	// Network is the kind, as clients declare it.
	// +kubebuilder:validation:MaxLength=32
	Network string `json:"network"`
	// Max is the longest interval that nearly every connection survives.
	Max metav1.Duration `json:"max"`
}

// Evacuation is how far the pods of one tainted node have come.
type Evacuation struct {
	// Node that was tainted.
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// TaintedAt is when.
	TaintedAt metav1.MicroTime `json:"taintedAt"`
	// UntaintedAt is when the taint was seen to be gone; absent: it is there.
	// +optional
	UntaintedAt *metav1.MicroTime `json:"untaintedAt,omitempty"`
	// Pods is how many that some controller keeps were told to go: those that
	// tolerate the taint, and a DaemonSet's, are not.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Pods int32 `json:"pods"`
	// Elsewhere is how many of them their controllers have made anew, and which
	// are Ready, on other nodes.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Elsewhere int32 `json:"elsewhere"`
	// Took is how long it took from TaintedAt until all were; absent: they are not.
	// +optional
	Took *metav1.Duration `json:"took,omitempty"`
	// Message says which are waited for.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// MemberStatus is one member that is not alive.
type MemberStatus struct {
	// Name of the node, or of the pod in the Presence's namespace.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// State is its verdict: Suspect, Overloaded, Dead, Unknown…
	// +kubebuilder:validation:MaxLength=64
	State string `json:"state"`
	// Since is when the member entered the state.
	// +optional
	Since metav1.MicroTime `json:"since,omitempty,omitzero"`
	// Message is the verdict in words, with the evidence that decided it.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}
