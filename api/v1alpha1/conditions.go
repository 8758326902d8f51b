package v1alpha1

// Labels, annotations and taints.
const (
	// AcceptingLabel is what a Service selects. Every server pod is born with
	// "true"; the controller turns it to "false" while the pod's clients are moved.
	AcceptingLabel = "rollcall.dev/accepting"
	// AcceptingGate is the type of a readiness gate, and of the condition that a pod
	// with that gate is Ready by: the controller sets it to True, and to False while
	// the pod's clients are moved and failover.divert is ReadinessGate.
	AcceptingGate = "rollcall.dev/accepting"
	// PausedAnnotation, on a pod, a node or a Presence, exempts it from every action.
	PausedAnnotation = "rollcall.dev/paused"
	// InstallationLabel, on a Presence or a Failover, names the installation that
	// it belongs to, by its namespace; absent: the cluster's default installation.
	// A Failover belongs where its Presence does, while there is one.
	InstallationLabel = "rollcall.dev/installation"
	// UnreachableTaint is put on dead nodes where spec.nodes.onDead.mode is Taint.
	UnreachableTaint = "rollcall.dev/unreachable"
	// TaintedByAnnotation, on a node, names the installation that put that taint on,
	// by its namespace. Without it the taint is somebody else's, and stays.
	TaintedByAnnotation = "rollcall.dev/tainted-by"
)

// Conditions of a Presence. The controller's leader sets all of them, each with
// the generation it speaks of. Positive polarity: True is normal. Negative
// polarity: True is abnormal.
const (
	// ConditionAccepted is True when the spec is honoured. While it is False
	// nothing of the spec is in force, and Ready is False for the same reason.
	// Positive polarity. Reasons: Honoured; NotInstallationNamespace,
	// SelectedByAnother, InvalidSelector.
	ConditionAccepted = "Accepted"
	// ConditionReady is True when the controller is able to judge: what else
	// the status says is then current. While it is False the counts and Healthy
	// are the last that were known. Positive polarity. Reasons: Judging;
	// WarmingUp, StoreAway, and those of Accepted=False.
	ConditionReady = "Ready"
	// ConditionHealthy is True when every member is alive, False when one is
	// known not to be, Unknown when no one can tell. A client that is Late does
	// not make it False: among many clients some always are. Positive polarity.
	// Reasons: AllAlive; Dead, Overloaded, Orphaned, Suspect, AgentDown,
	// Isolated, Silent; Unknown, NoMembers. Of several, the first in this order.
	ConditionHealthy = "Healthy"
	// ConditionFrozen is True while the brake forbids every action: verdicts go
	// on, and nobody is moved. Negative polarity. Reasons: NotFrozen;
	// TooManyLost, TooFewHealthy, WarmingUp, StoreAway, Paused, NoHeadroom.
	ConditionFrozen = "Frozen"
	// ConditionFewObservers is True while a server has fewer observers than
	// spec.servers.overload.observers asks for, so that the others decide, and
	// one alone needs a second kind of evidence. Servers only. Negative
	// polarity. Reasons: EnoughObservers; FewNodes.
	ConditionFewObservers = "FewObservers"
	// ConditionKernelAsked tells whether the kernels of the servers' nodes are asked
	// about them; of servers that are not heartbeat servers only. Positive polarity.
	// Reasons: KernelAsked, PortClosed; NoSeverer, KernelBlind.
	ConditionKernelAsked = "KernelAsked"
	// ConditionDiverted tells whether new clients are led past a server that is taken
	// out, as failover.divert says; of servers that are not heartbeat servers only.
	// While no Service follows, or one strays, nobody is moved. Positive polarity.
	// Reasons: Diverted; NotFollowing, NoService, NotLabelled, NotGated,
	// MayNotSetGates, NotAsked.
	ConditionDiverted = "Diverted"
	// ConditionCalibrating is True until the servers' usual answer time is known,
	// and where it is known and answerTime cannot fit it; servers only. Negative polarity.
	ConditionCalibrating = "Calibrating"
)

// Conditions of a Failover, set by the controller's leader.
const (
	// ConditionProcessing is True while clients are being moved, and False for
	// ever after. Its reason is what `kubectl get failovers` prints as STATE.
	// Neither polarity is abnormal. Reasons while True: Pending, Moving,
	// NoHeadroom; when False: Moved, Recovered, Advised, Cancelled, TimedOut.
	ConditionProcessing = "Processing"
	// ConditionSucceeded is Unknown while processing. Then it is True when no
	// client is left on a server that doesn't answer (Moved, Recovered), and
	// False when that can't be said (Advised, Cancelled, TimedOut). Its reason
	// is always that of Processing. Positive polarity.
	ConditionSucceeded = "Succeeded"
)

// The severer's condition of a Failover.
const (
	// ConditionSevering is True while the severer on the server's node ends
	// connections, and False while it does not, with the reason why. It is absent
	// where no severer was ever asked, or none runs there. The severer sets it, and
	// nobody else. Neither polarity is abnormal. Reasons: Severing; NoneLeft,
	// NotDiverted, SeveringEnded, and for what it refuses or cannot do HostNetwork,
	// NoSuchPod, NoSuchPort, NoNamespace, NotPermitted, NotSupported, SeveringFailed.
	ConditionSevering = "Severing"
)

// Reasons of Severing.
const (
	// ReasonSevering (Severing=True): connections are being ended.
	ReasonSevering = "Severing"
	// ReasonNoneLeft (Severing=False): the pod has no client connection on its
	// port any more. The severer goes on looking while it is asked to.
	ReasonNoneLeft = "NoneLeft"
	// ReasonNotDiverted (Severing=False): a Service still leads to the pod, or
	// none would lead past it, so that clients would come back to it.
	ReasonNotDiverted = "NotDiverted"
	// ReasonSeveringEnded (Severing=False): it is no longer asked to.
	ReasonSeveringEnded = "SeveringEnded"
	// ReasonHostNetwork (Severing=False): the pod shares its node's network, where
	// its connections can't be told from others' for certain.
	ReasonHostNetwork = "HostNetwork"
	// ReasonNoSuchPod (Severing=False): the pod that is meant is gone, or has no
	// address yet.
	ReasonNoSuchPod = "NoSuchPod"
	// ReasonNoSuchPort (Severing=False): no container of the pod has the port's name.
	ReasonNoSuchPort = "NoSuchPort"
	// ReasonNoNamespace (Severing=False): none, or more than one, of the node's
	// network namespaces has the pod's addresses.
	ReasonNoNamespace = "NoNamespace"
	// ReasonNotPermitted (Severing=False): the severer lacks CAP_NET_ADMIN or CAP_SYS_ADMIN.
	ReasonNotPermitted = "NotPermitted"
	// ReasonNotSupported (Severing=False): the node's kernel has no socket destroy.
	ReasonNotSupported = "NotSupported"
	// ReasonSeveringFailed (Severing=False): something else went wrong; it is tried again.
	ReasonSeveringFailed = "SeveringFailed"
)

// Reasons of Accepted.
const (
	// ReasonHonoured (Accepted=True): the spec is in force.
	ReasonHonoured = "Honoured"
	// ReasonForeign (Accepted=False, Ready=False): spec.nodes outside the
	// installation's namespace.
	ReasonForeign = "NotInstallationNamespace"
	// ReasonConflict (Accepted=False, Ready=False): an older Presence selects
	// the same servers.
	ReasonConflict = "SelectedByAnother"
	// ReasonInvalidSelector (Accepted=False, Ready=False): the selector holds a
	// label key or value that Kubernetes doesn't allow, which admission can't see.
	ReasonInvalidSelector = "InvalidSelector"
)

// Reasons of Ready.
const (
	// ReasonJudging (Ready=True): evidence comes in, and verdicts go out.
	ReasonJudging = "Judging"
	// ReasonWarmingUp (Ready=False, Frozen=True): the leader has just begun, and
	// has not yet watched for long enough to tell silence from its own start.
	ReasonWarmingUp = "WarmingUp"
	// ReasonStoreAway (Ready=False, Frozen=True): etcd doesn't answer, or has
	// only just come back.
	ReasonStoreAway = "StoreAway"
)

// Reasons of Healthy. Those of Healthy=False and Unknown are the states that
// members are in.
const (
	// ReasonAllAlive (Healthy=True): every member is alive; of clients, none is
	// Orphaned.
	ReasonAllAlive = "AllAlive"
	// ReasonNoMembers (Healthy=Unknown): no node or server is selected. A
	// Clients Presence without clients is AllAlive.
	ReasonNoMembers = "NoMembers"
	// ReasonDead (Healthy=False): a node or a server is gone.
	ReasonDead = "Dead"
	// ReasonOverloaded (Healthy=False): a server is TCP-alive and does not
	// answer in time.
	ReasonOverloaded = "Overloaded"
	// ReasonOrphaned (Healthy=False): clients whose server is gone have not yet
	// reached another.
	ReasonOrphaned = "Orphaned"
	// ReasonSuspect (Healthy=False): something speaks against a node or a
	// server, and it is not enough for a verdict.
	ReasonSuspect = "Suspect"
	// ReasonAgentDown (Healthy=False): a machine lives, its agent doesn't.
	ReasonAgentDown = "AgentDown"
	// ReasonIsolated (Healthy=False): a node beats, and gossip doesn't reach it.
	ReasonIsolated = "Isolated"
	// ReasonSilent (Healthy=False): a node gossips, and its beats don't arrive.
	ReasonSilent = "Silent"
	// ReasonUnknown (Healthy=Unknown): of some members there is no evidence, and
	// nothing speaks against the others.
	ReasonUnknown = "Unknown"
)

// Reasons of Frozen.
const (
	// ReasonNotFrozen (Frozen=False): actions are allowed.
	ReasonNotFrozen = "NotFrozen"
	// ReasonTooManyLost (Frozen=True): more members were lost within the window
	// than fail independently; the cause is likely shared, or ours.
	ReasonTooManyLost = "TooManyLost"
	// ReasonTooFewHealthy (Frozen=True): fewer servers are healthy than
	// spec.servers.failover.minHealthy.
	ReasonTooFewHealthy = "TooFewHealthy"
	// ReasonPaused (Frozen=True): a person pulled the stop switch, or the
	// Presence carries PausedAnnotation.
	ReasonPaused = "Paused"
	// ReasonNoHeadroom (Frozen=True on a Presence, Processing=True on a
	// Failover): no server has room for more clients, so they stay where they are.
	ReasonNoHeadroom = "NoHeadroom"
)

// Reasons of Calibrating.
const (
	// ReasonCalibrated (Calibrating=False): the usual answer time is known, and
	// servers.overload.answerTime leaves room above it.
	ReasonCalibrated = "Calibrated"
	// ReasonMeasuring (Calibrating=True): the usual answer time isn't known yet.
	ReasonMeasuring = "Measuring"
	// ReasonAnswerTimeTooShort (Calibrating=True): healthy servers usually take more
	// than half of servers.overload.answerTime; the message suggests another.
	ReasonAnswerTimeTooShort = "AnswerTimeTooShort"
)

// Reasons of KernelAsked.
const (
	// ReasonKernelAsked (KernelAsked=True): the severer on every server's node asks.
	ReasonKernelAsked = "KernelAsked"
	// ReasonPortClosed (KernelAsked=True): nothing listens on servers.port of a server.
	ReasonPortClosed = "PortClosed"
	// ReasonNoSeverer (KernelAsked=False): no severer reports from a server's node.
	ReasonNoSeverer = "NoSeverer"
	// ReasonKernelBlind (KernelAsked=False): a severer can't ask; the message says why.
	ReasonKernelBlind = "KernelBlind"
)

// Reasons of Diverted.
const (
	// ReasonDiverted (Diverted=True): the Services that lead to the servers follow
	// AcceptingLabel, or the pods' readiness, and the message names them.
	ReasonDiverted = "Diverted"
	// ReasonNotFollowing (Diverted=False): a Service leads to the servers, and does
	// not select AcceptingLabel (with ReadinessGate: publishes pods that are not
	// Ready): clients would come back to one that is taken out.
	ReasonNotFollowing = "NotFollowing"
	// ReasonNoService (Diverted=False): no Service that selects AcceptingLabel (with
	// ReadinessGate: none at all) leads to the servers.
	ReasonNoService = "NoService"
	// ReasonNotLabelled (Diverted=False): some of the servers lack AcceptingLabel;
	// nobody is moved from those.
	ReasonNotLabelled = "NotLabelled"
	// ReasonNotGated (Diverted=False): with ReadinessGate, some of the servers lack the
	// gate AcceptingGate; nobody is moved from those.
	ReasonNotGated = "NotGated"
	// ReasonMayNotSetGates (Diverted=False): with ReadinessGate, the controller may not
	// write the status of pods: controller.readinessGates.
	ReasonMayNotSetGates = "MayNotSetGates"
	// ReasonNotAsked (Diverted=False): failover.divert is None.
	ReasonNotAsked = "NotAsked"
)

// Reasons of FewObservers.
const (
	// ReasonEnough (FewObservers=False): every server has the observers it should.
	ReasonEnough = "EnoughObservers"
	// ReasonFewNodes (FewObservers=True): too few nodes have an agent that can
	// observe.
	ReasonFewNodes = "FewNodes"
)

// Reasons of Processing and Succeeded, as STATE prints them; also NoHeadroom.
const (
	// ReasonPending (Processing=True): created, nothing done yet.
	ReasonPending = "Pending"
	// ReasonMoving (Processing=True): the directive is written and clients are leaving.
	ReasonMoving = "Moving"
	// ReasonMoved (Processing=False, Succeeded=True): every client that was
	// expected is elsewhere, or gone.
	ReasonMoved = "Moved"
	// ReasonRecovered (Processing=False, Succeeded=True): the server answered
	// again before all had moved; the others stay with it.
	ReasonRecovered = "Recovered"
	// ReasonAdvised (Processing=False, Succeeded=False): the mode is Advise;
	// nothing was done.
	ReasonAdvised = "Advised"
	// ReasonCancelled (Processing=False, Succeeded=False): the Presence changed,
	// the server is gone, or a person paused it.
	ReasonCancelled = "Cancelled"
	// ReasonTimedOut (Processing=False, Succeeded=False): clients were still
	// pending at the deadline.
	ReasonTimedOut = "TimedOut"
)
