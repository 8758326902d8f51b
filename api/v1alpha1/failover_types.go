package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Failover is one decision to move clients: its reason, its progress and its
// outcome. A person drains a server by creating one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=fo,categories=rollcall
// +kubebuilder:printcolumn:name="From",type=string,JSONPath=`.spec.server`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.spec.reason`
// +kubebuilder:printcolumn:name="To",type=integer,JSONPath=`.status.receivers`
// +kubebuilder:printcolumn:name="Moved",type=integer,JSONPath=`.status.moved`
// +kubebuilder:printcolumn:name="Pending",type=integer,JSONPath=`.status.pending`
// +kubebuilder:printcolumn:name="Lost",type=integer,JSONPath=`.status.lost`
// +kubebuilder:printcolumn:name="Severed",type=integer,priority=1,JSONPath=`.status.severed.connections`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.conditions[?(@.type=="Processing")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Failover struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec FailoverSpec `json:"spec"`
	// +optional
	Status FailoverStatus `json:"status,omitempty,omitzero"`
}

// FailoverList is a list of Failovers.
//
// +kubebuilder:object:root=true
type FailoverList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Failover `json:"items"`
}

// FailoverReason is why clients are moved.
//
// +kubebuilder:validation:Enum=Overloaded;Dead;Returned;Rebalance;Drain
type FailoverReason string

// The reasons of a Failover.
const (
	// FailoverOverloaded: the server is TCP-alive and does not answer in time.
	FailoverOverloaded FailoverReason = "Overloaded"
	// FailoverDead: the server's process or its machine is gone.
	FailoverDead FailoverReason = "Dead"
	// FailoverReturned: a server that was out of service is back, or is new, and
	// gets its share from this one.
	FailoverReturned FailoverReason = "Returned"
	// FailoverRebalance: the load has stayed uneven.
	FailoverRebalance FailoverReason = "Rebalance"
	// FailoverDrain: a person asked for it.
	FailoverDrain FailoverReason = "Drain"
)

// FailoverSpec is the decision. It cannot be changed once made.
//
// +kubebuilder:validation:XValidation:rule="!has(self.targets) || self.targets.all(t, t.server != self.server)",message="spec.targets must not hold spec.server, whose clients are moved away: remove it from the targets",fieldPath=".targets"
// +kubebuilder:validation:XValidation:rule="!has(self.targets) || self.targets.size() == 0 || self.targets.exists(t, t.weight > 0)",message="spec.targets must hold a server with a weight above 0, or be left out: then the controller chooses",fieldPath=".targets"
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a Failover is immutable: delete it (which cancels it) and create another"
type FailoverSpec struct {
	// Presence is the servers Presence (of the same namespace) that the server belongs to.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="spec.presence must be the name of a servers Presence in this namespace"
	// +required
	Presence string `json:"presence"`
	// Server is the pod (of the same namespace) whose clients are moved.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="spec.server must be the name of a pod in this namespace, such as server-2"
	// +required
	Server string `json:"server"`
	// Incarnation is the life of that server's process that is meant; empty:
	// whichever runs when the Failover is first seen.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Incarnation string `json:"incarnation,omitempty"`
	// Reason is why; a Failover without one is a drain that a person asked for.
	// +kubebuilder:default=Drain
	// +optional
	Reason FailoverReason `json:"reason,omitempty"`
	// Evidence is the verdict in words, as it stood when this was decided.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Evidence string `json:"evidence,omitempty"`
	// Clients is how many sessions the server held when it was last seen well.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Clients int32 `json:"clients,omitempty"`
	// Count limits how many clients are moved; absent: all.
	// +kubebuilder:validation:Minimum=1
	// +optional
	Count *int32 `json:"count,omitempty"`
	// TakenOver is how many takeovers from this incarnation the other servers
	// had already reported when it was last seen well: the baseline of status.moved.
	// +kubebuilder:validation:Minimum=0
	// +optional
	TakenOver int32 `json:"takenOver,omitempty"`
	// Targets are the servers that receive, with their weights; empty: the
	// controller chooses when it first sees the Failover.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=server
	// +optional
	Targets []FailoverTarget `json:"targets,omitempty"`
	// DetectedAt is when the first evidence of the fault was seen.
	// +optional
	DetectedAt *metav1.MicroTime `json:"detectedAt,omitempty"`
}

// FailoverTarget is one receiving server.
type FailoverTarget struct {
	// Server is the pod (of the same namespace) that receives.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="targets.server must be the name of a pod in this namespace, such as server-1"
	Server string `json:"server"`
	// Weight is this receiver's part: it is sent clients in proportion to its
	// weight in the sum of all weights; 0: none.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight int32 `json:"weight"`
}

// FailoverStatus is the progress and the outcome.
type FailoverStatus struct {
	// ObservedGeneration is the generation that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Receivers is how many servers receive.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Receivers int32 `json:"receivers"`
	// Moved counts clients that other servers have taken over.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Moved int32 `json:"moved"`
	// MovedBy says what made them leave.
	// +optional
	MovedBy MovedBy `json:"movedBy,omitempty,omitzero"`
	// Pending counts clients that are still expected.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Pending int32 `json:"pending"`
	// Lost counts clients that went Offline.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Lost int32 `json:"lost"`
	// DetectedAt is when the first evidence of the fault was seen, as in the spec.
	// +optional
	DetectedAt *metav1.MicroTime `json:"detectedAt,omitempty"`
	// DecidedAt is when the controller first acted on this Failover.
	// +optional
	DecidedAt *metav1.MicroTime `json:"decidedAt,omitempty"`
	// FirstMovedAt is when the first client was known to be elsewhere.
	// +optional
	FirstMovedAt *metav1.MicroTime `json:"firstMovedAt,omitempty"`
	// CompletedAt is when Processing became False.
	// +optional
	CompletedAt *metav1.MicroTime `json:"completedAt,omitempty"`
	// Sever is what the severer on the server's node is asked to do; absent: nothing.
	// +optional
	Sever *SeverOrder `json:"sever,omitempty"`
	// Severed is what it has done. It is the severer's alone to write.
	// +optional
	Severed *Severed `json:"severed,omitempty"`
	// Conditions are Processing and Succeeded, and the severer's Severing.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MovedBy says what made clients leave.
type MovedBy struct {
	// Directive: the server told them to go.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Directive int32 `json:"directive"`
	// OwnTimeout: they left by themselves, because answers were late or the connection broke.
	// +kubebuilder:validation:Minimum=0
	// +optional
	OwnTimeout int32 `json:"ownTimeout"`
	// Severed: the kernel ended the connection, or the client did not say why it came.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Severed int32 `json:"severed"`
}

// SeverOrder asks the severer on one node to end the client connections of one
// pod. It is good for a few seconds after RenewedAt was last seen to change: a
// controller that is away severs nobody.
type SeverOrder struct {
	// Installation whose severer is asked, by its namespace.
	// +kubebuilder:validation:MaxLength=63
	Installation string `json:"installation"`
	// Node that the pod runs on.
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// PodUID is which pod of spec.server's name is meant.
	PodUID types.UID `json:"podUID"`
	// Port that clients connect to, as the Presence names it.
	// +kubebuilder:validation:XIntOrString
	Port intstr.IntOrString `json:"port"`
	// Divert is how new clients are led past the pod, of which the severer makes sure;
	// absent: Label.
	// +optional
	Divert DivertMode `json:"divert,omitempty"`
	// ClientsPerSecond is the pace, after a first wave of FirstWave at once.
	// +kubebuilder:validation:Minimum=1
	ClientsPerSecond int32 `json:"clientsPerSecond"`
	// FirstWave is how many may be ended at once, to begin with.
	// +kubebuilder:validation:Minimum=0
	// +optional
	FirstWave int32 `json:"firstWave,omitempty"`
	// RenewedAt is when the controller last meant this.
	RenewedAt metav1.MicroTime `json:"renewedAt"`
}

// SeverOrderGood is how long a severer follows an order after it has seen that
// order renewed.
const SeverOrderGood = 5 * time.Second

// Severed is what the severer has done about one Failover.
type Severed struct {
	// Node that it runs on.
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// Port of the pod that the connections were to.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Port int32 `json:"port,omitempty"`
	// Connections counts those that it has ended.
	// +kubebuilder:validation:Minimum=0
	Connections int32 `json:"connections"`
	// Remaining counts the client connections that there were when it last looked.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Remaining int32 `json:"remaining"`
	// FirstAt and LastAt are when it ended the first one, and the last so far.
	// +optional
	FirstAt *metav1.MicroTime `json:"firstAt,omitempty"`
	// +optional
	LastAt *metav1.MicroTime `json:"lastAt,omitempty"`
}
