package verdict

// Nodes judges all nodes. prev and prevBrake are the outcome of the last
// judgement; nil and zero at the first.
func Nodes(w World, ev []NodeEvidence, prev map[string]Verdict, prevBrake Brake) Judgement {
	return Judgement{}
}

// Or is frozen where either is: what the plan for servers gets is the brake of
// the servers, or that of the nodes.
func (b Brake) Or(other Brake) Brake {
	if b.Frozen || !other.Frozen {
		return b
	}
	return other
}
