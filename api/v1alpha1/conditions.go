package v1alpha1

// Labels and annotations.
const (
	// AcceptingLabel is what a Service selects. Every server pod is born with
	// "true"; the controller turns it to "false" while the pod's clients are moved.
	AcceptingLabel = "rollcall.dev/accepting"
	// PausedAnnotation, on a pod or a Presence, exempts it from every action.
	PausedAnnotation = "rollcall.dev/paused"
	// UnreachableTaint is put on dead nodes where spec.nodes.onDead.mode is Taint.
	UnreachableTaint = "rollcall.dev/unreachable"
)

// Conditions of a Presence.
const (
	// ConditionReady is True when the controller is able to judge.
	ConditionReady = "Ready"
	// ConditionHealthy is True when every member is alive.
	ConditionHealthy = "Healthy"
	// ConditionAccepted is True when the spec is honoured.
	ConditionAccepted = "Accepted"
	// ConditionFrozen is True (abnormal) while the brake forbids every action.
	ConditionFrozen = "Frozen"
	// ConditionFewObservers is True (abnormal) when fewer nodes than needed can observe.
	ConditionFewObservers = "FewObservers"
)

// Conditions of a Failover.
const (
	// ConditionProcessing is True while clients are being moved. Its reason is
	// what `kubectl get failovers` prints as STATE.
	ConditionProcessing = "Processing"
	// ConditionSucceeded is Unknown while processing, then True or False.
	ConditionSucceeded = "Succeeded"
)

// Reasons of Presence conditions.
const (
	ReasonAllAlive       = "AllAlive"
	ReasonJudging        = "Judging"
	ReasonWarmingUp      = "WarmingUp"
	ReasonNoMembers      = "NoMembers"
	ReasonSuspect        = "Suspect"
	ReasonOverloaded     = "Overloaded"
	ReasonDead           = "Dead"
	ReasonUnknown        = "Unknown"
	ReasonHonoured       = "Honoured"
	ReasonForeign        = "NotInstallationNamespace"
	ReasonConflict       = "SelectedByAnother"
	ReasonNotFrozen      = "NotFrozen"
	ReasonEnough         = "EnoughObservers"
	ReasonFewNodes       = "FewNodes"
	ReasonTooManyLost    = "TooManyLost"
	ReasonTooFewHealthy  = "TooFewHealthy"
	ReasonStoreAway      = "StoreAway"
	ReasonPaused         = "Paused"
	ReasonNoHeadroom     = "NoHeadroom"
	ReasonInvalidPresent = "Invalid"
)

// Reasons of Failover conditions, as STATE prints them.
const (
	// ReasonPending: created, nothing done yet.
	ReasonPending = "Pending"
	// ReasonMoving: the directive is written and clients are leaving.
	ReasonMoving = "Moving"
	// ReasonMoved: every client that was expected is elsewhere, or gone.
	ReasonMoved = "Moved"
	// ReasonAdvised: the mode is Advise; nothing was done.
	ReasonAdvised = "Advised"
	// ReasonRecovered: the server answered again before all had moved.
	ReasonRecovered = "Recovered"
	// ReasonCancelled: the Presence changed, the server is gone, or a person paused it.
	ReasonCancelled = "Cancelled"
	// ReasonTimedOut: clients were still pending at the deadline.
	ReasonTimedOut = "TimedOut"
)
