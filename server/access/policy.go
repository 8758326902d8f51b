package access

import (
	"slices"
	"strings"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/rollcall-dev/rollcall/server"
)

// What RBAC is about here.
const (
	group       = "rollcall.dev"
	resource    = "presences"
	subresource = "clients"
)

// verbs are the rights, as RBAC names them.
var verbs = []struct {
	name  string
	right server.Rights
}{
	{"connect", server.Connect}, {"watch", server.Watch}, {"report", server.Report}, {"impersonate", server.Impersonate},
}

// maxAnswers bounds how many answers of a policy are remembered.
const maxAnswers = 1 << 16

// policy is the part of a cluster's RBAC that speaks of presences/clients. It
// answers as kube-apiserver's own authorizer does (a property test compares
// them). Safe for concurrent use.
type policy struct {
	mu    sync.RWMutex
	roles map[roleKey][]rule
	// bindings by namespace, "" for those of the whole cluster, and by name.
	bindings map[string]map[string]binding
	// answers that were given since the last change.
	answers map[question]server.Rights
}

// roleKey names a role; without a namespace, a ClusterRole.
type roleKey struct{ namespace, name string }

type rule struct {
	rights server.Rights
	names  []string // of Presences; none: all
}

type binding struct {
	role     roleKey
	subjects []rbacv1.Subject
}

func newPolicy() *policy {
	return &policy{roles: map[roleKey][]rule{}, bindings: map[string]map[string]binding{}, answers: map[question]server.Rights{}}
}

// put takes a role or binding that is new or has changed.
func (p *policy) put(object any) {
	switch o := object.(type) {
	case *rbacv1.Role:
		p.putRole(roleKey{o.Namespace, o.Name}, o.Rules)
	case *rbacv1.ClusterRole:
		p.putRole(roleKey{"", o.Name}, o.Rules)
	case *rbacv1.RoleBinding:
		p.bind(o.Namespace, o.Name, o.RoleRef, o.Subjects)
	case *rbacv1.ClusterRoleBinding:
		p.bind("", o.Name, o.RoleRef, o.Subjects)
	}
}

// remove takes the end of a role or binding.
func (p *policy) remove(object any) {
	switch o := object.(type) {
	case *rbacv1.Role:
		p.putRole(roleKey{o.Namespace, o.Name}, nil)
	case *rbacv1.ClusterRole:
		p.putRole(roleKey{"", o.Name}, nil)
	case *rbacv1.RoleBinding:
		p.unbind(o.Namespace, o.Name)
	case *rbacv1.ClusterRoleBinding:
		p.unbind("", o.Name)
	}
}

func (p *policy) putRole(key roleKey, rules []rbacv1.PolicyRule) {
	var relevant []rule
	for i := range rules {
		if rights := rightsOf(&rules[i]); rights != 0 {
			relevant = append(relevant, rule{rights, slices.Clone(rules[i].ResourceNames)})
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, had := p.roles[key]; !had && relevant == nil {
		return // most roles speak of other things
	}
	if relevant == nil {
		delete(p.roles, key)
	} else {
		p.roles[key] = relevant
	}
	clear(p.answers)
}

func (p *policy) bind(namespace, name string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
	var role roleKey
	switch {
	case ref.Kind == "ClusterRole":
		role = roleKey{"", ref.Name}
	case ref.Kind == "Role" && namespace != "":
		role = roleKey{namespace, ref.Name}
	default:
		p.unbind(namespace, name)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bindings[namespace] == nil {
		p.bindings[namespace] = map[string]binding{}
	}
	p.bindings[namespace][name] = binding{role, slices.Clone(subjects)}
	clear(p.answers)
}

func (p *policy) unbind(namespace, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.bindings[namespace], name)
	clear(p.answers)
}

// rights are those that the question's subject has on its Presence.
func (p *policy) rights(q question) server.Rights {
	p.mu.RLock()
	r, ok := p.answers[q]
	p.mu.RUnlock()
	if ok {
		return r
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r = p.evaluate(q)
	if len(p.answers) >= maxAnswers {
		clear(p.answers)
	}
	p.answers[q] = r
	return r
}

func (p *policy) evaluate(q question) server.Rights {
	user, groups := q.subject.Value().user, q.subject.Value().groupList()
	var rights server.Rights
	for _, namespace := range []string{"", q.namespace} {
		for _, b := range p.bindings[namespace] {
			rules := p.roles[b.role]
			if len(rules) == 0 || !slices.ContainsFunc(b.subjects, func(s rbacv1.Subject) bool { return applies(s, namespace, user, groups) }) {
				continue
			}
			for _, r := range rules {
				if len(r.names) == 0 || slices.Contains(r.names, q.presence) {
					rights |= r.rights
				}
			}
		}
	}
	return rights
}

// applies tells whether a binding in namespace ("": of the cluster) that names s
// is about the user.
func applies(s rbacv1.Subject, namespace, user string, groups []string) bool {
	switch s.Kind {
	case rbacv1.UserKind:
		return s.Name == user
	case rbacv1.GroupKind:
		return slices.Contains(groups, s.Name)
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		return namespace != "" && user == "system:serviceaccount:"+namespace+":"+s.Name
	}
	return false
}

// rightsOf is what a rule says of presences/clients.
func rightsOf(r *rbacv1.PolicyRule) server.Rights {
	one := func(all []string, names ...string) bool {
		return slices.ContainsFunc(all, func(s string) bool { return slices.Contains(names, s) })
	}
	if !one(r.APIGroups, rbacv1.APIGroupAll, group) ||
		!one(r.Resources, rbacv1.ResourceAll, resource+"/"+subresource, "*/"+subresource) {
		return 0
	}
	var rights server.Rights
	for _, v := range verbs {
		if one(r.Verbs, rbacv1.VerbAll, v.name) {
			rights |= v.right
		}
	}
	return rights
}

func describe(r server.Rights) string {
	var names []string
	for _, v := range verbs {
		if r.Has(v.right) {
			names = append(names, v.name)
		}
	}
	return strings.Join(names, ",")
}
