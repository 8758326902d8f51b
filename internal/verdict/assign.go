package verdict

// Assign chooses at most k of the candidates to watch a subject ("namespace/pod"
// of a server, or the name of a node), distinct zones first, never from
// subjectNode, the machine that the subject runs on. Agents and controller
// call it with the same candidates and so agree without talking.
func Assign(subject, subjectNode string, candidates []Candidate, k int) []Observer {
	return nil
}
