package verdict

// Servers judges all servers of one Presence. prev and prevBrake are the
// outcome of the last judgement; nil and zero at the first.
func Servers(w World, p ServerPolicy, ev []ServerEvidence, prev map[string]Verdict, prevBrake Brake) Judgement {
	return Judgement{}
}
