package access

import (
	"crypto/x509"
	"slices"
	"strings"
	"unique"

	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

// Prefixes keep those from outside the cluster apart from its own users and
// groups, whatever their certificates and tokens say.
const (
	certificatePrefix    = "certificate:"
	tokenPrefix          = "jwt:"
	serviceAccountPrefix = "system:serviceaccount:"
	// Everybody who has shown a certificate, or a token from outside, is in one
	// of these groups.
	certificateGroup = "rollcall:certificates"
	tokenGroup       = "rollcall:jwts"
)

// reserved tells whether a name is one that is given here.
func reserved(name string) bool {
	return strings.HasPrefix(name, certificatePrefix) || strings.HasPrefix(name, tokenPrefix) || strings.HasPrefix(name, serviceAccountPrefix)
}

// subject is a user as RBAC knows it.
type subject struct {
	user string
	// groups, each followed by a newline.
	groups string
}

// subjectHandle is the same for the same subject: sessions share it.
type subjectHandle = unique.Handle[subject]

func newSubject(user string, groups []string) subjectHandle {
	groups = slices.Clone(groups)
	groups = slices.DeleteFunc(groups, func(g string) bool { return strings.Contains(g, "\n") })
	slices.Sort(groups)
	s := subject{user: user}
	for _, g := range slices.Compact(groups) {
		s.groups += g + "\n"
	}
	return unique.Make(s)
}

func (s subject) groupList() []string {
	return strings.Split(strings.TrimSuffix(s.groups, "\n"), "\n")
}

// identity is who a credential proves somebody to be.
type identity struct {
	subject subjectHandle
	// names are what their client ids begin with.
	names []string
	// node that they run on; empty: not known.
	node string
}

func serviceAccount(namespace, name, pod, node string) identity {
	i := identity{
		subject: newSubject(serviceAccountPrefix+namespace+":"+name,
			[]string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}),
		names: []string{name}, node: node,
	}
	if pod != "" {
		i.names = append(i.names, pod)
	}
	return i
}

// certificate is whom a client certificate names, which TLS has verified.
func certificate(c *x509.Certificate) (identity, error) {
	name := c.Subject.CommonName
	if name == "" {
		return identity{}, &refusal{whyName}
	}
	groups := []string{certificateGroup}
	for _, o := range c.Subject.Organization {
		groups = append(groups, certificatePrefix+o)
	}
	return identity{subject: newSubject(certificatePrefix+name, groups), names: []string{name}}, nil
}

// proves tells whether a client of this id can only be theirs.
func (i identity) proves(client string) bool {
	return slices.ContainsFunc(i.names, func(name string) bool {
		rest, ok := strings.CutPrefix(client, name)
		return ok && name != "" && (rest == "" || strings.ContainsRune("-.:", rune(rest[0])))
	})
}

// agent tells whether a client of this id is the agent of their node, or the
// severer there, which speaks for its kernel.
func (i identity) agent(client string) bool {
	if i.node == "" {
		return false
	}
	kernel := wire.KernelObserver(i.node)
	return client == i.node+":0" || client == i.node+":1" || strings.HasPrefix(client, "probe:"+i.node+":") ||
		client == kernel+":0" || client == kernel+":1"
}

// narrow is what is left of the rights that they have on a Presence, for one
// client of it. Agents alone report, and nobody may speak for another's node:
// not even who may impersonate.
func (i identity) narrow(c server.Credentials, has server.Rights, installation string) server.Rights {
	if c.Kind == server.Nodes {
		const needed = server.Connect | server.Report
		if c.Namespace == installation && i.agent(c.ClientID) && has.Has(needed) {
			return needed
		}
		return 0
	}
	left := has &^ (server.Report | server.Impersonate)
	switch {
	case i.proves(c.ClientID):
	case has.Has(server.Impersonate):
		left |= server.Impersonate // the session lives by it
	default:
		left &^= server.Connect
	}
	return left
}
