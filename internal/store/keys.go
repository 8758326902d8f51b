package store

import (
	"fmt"
	"strconv"
	"strings"
)

// The layout of etcd's key space. A <server> is two segments, namespace/pod.
// No segment holds a slash, so that every key has exactly one reading.
const (
	root             = "/rollcall/v1/"
	serversRoot      = root + "servers/"      // <server>
	sessionsRoot     = root + "sessions/"     // <namespace>/<presence>/<client>
	observationsRoot = root + "observations/" // <server>/<observer>
	suspicionsRoot   = root + "suspicions/"   // <node>/<reporter>
	directivesRoot   = root + "directives/"   // <server>
	assignmentsRoot  = root + "assignments/"  // <server>
	penaltiesRoot    = root + "penalties/"    // <server>
	dueRoot          = root + "due/"          // <server>
	bucketsRoot      = root + "buckets/"      // <server>/<lease in hexadecimal>
	pauseKey         = root + "pause"
	electionRoot     = root + "election"
	installationKey  = root + "installation" // whose this is: see Claim
	// nothingKey never exists; reading it costs least and proves most.
	nothingKey = root + "nothing"
)

func sessionPath(k SessionKey) string {
	return sessionsRoot + k.Namespace + "/" + k.Presence + "/" + k.Client
}

func (k SessionKey) validate() error {
	if !segments(k.Namespace, k.Presence, k.Client) {
		return fmt.Errorf("session key %q has an empty part or a slash", k)
	}
	return nil
}

func bucketsPath(server string) string { return bucketsRoot + server + "/" }

func bucketPath(server string, id BucketID) string {
	return bucketsPath(server) + strconv.FormatInt(int64(id), 16)
}

func observationPath(k ObservationKey) string {
	return observationsRoot + k.Server + "/" + k.Observer
}

func suspicionPath(k SuspicionKey) string { return suspicionsRoot + k.Node + "/" + k.Reporter }

// segments tells whether each can be one segment of a key.
func segments(names ...string) bool {
	for _, n := range names {
		if n == "" || strings.Contains(n, "/") {
			return false
		}
	}
	return true
}

// validServer tells whether a server's name is namespace/pod.
func validServer(name string) error {
	if namespace, pod, _ := strings.Cut(name, "/"); !segments(namespace, pod) {
		return fmt.Errorf("server %q is not namespace/pod", name)
	}
	return nil
}

// The parsers take what follows the root of their keys.

func parseServer(rest string) (string, bool) { return rest, validServer(rest) == nil }

func parseSession(rest string) (SessionKey, bool) {
	p := strings.Split(rest, "/")
	if len(p) != 3 || !segments(p...) {
		return SessionKey{}, false
	}
	return SessionKey{Namespace: p[0], Presence: p[1], Client: p[2]}, true
}

func parseObservation(rest string) (ObservationKey, bool) {
	p := strings.Split(rest, "/")
	if len(p) != 3 || !segments(p...) {
		return ObservationKey{}, false
	}
	return ObservationKey{Server: p[0] + "/" + p[1], Observer: p[2]}, true
}

func parseSuspicion(rest string) (SuspicionKey, bool) {
	p := strings.Split(rest, "/")
	if len(p) != 2 || !segments(p...) {
		return SuspicionKey{}, false
	}
	return SuspicionKey{Node: p[0], Reporter: p[1]}, true
}

func parseBucket(rest string) (BucketID, bool) {
	n, err := strconv.ParseInt(rest, 16, 64)
	return BucketID(n), err == nil && n > 0
}
