package access

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	rbacclient "k8s.io/client-go/kubernetes/typed/rbac/v1"

	"github.com/rollcall-dev/rollcall/server"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

func pick[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

func some[T any](r *rand.Rand, most int, all ...T) []T {
	l := make([]T, r.IntN(most)+1)
	for i := range l {
		l[i] = pick(r, all...)
	}
	return l
}

func randomRules(r *rand.Rand) []rbacv1.PolicyRule {
	rules := make([]rbacv1.PolicyRule, r.IntN(3))
	for i := range rules {
		rules[i] = rbacv1.PolicyRule{
			APIGroups: some(r, 2, "rollcall.dev", "*", "", "apps", "rollcall.dev"),
			Resources: some(r, 2, "presences/clients", "presences", "*/clients", "*", "presences/*", "presences/status", "*/status", "presences/clients"),
			Verbs:     some(r, 3, "connect", "watch", "report", "impersonate", "*", "get"),
		}
		if r.IntN(2) == 0 {
			rules[i].ResourceNames = some(r, 2, "android", "ios", "*", "")
		}
	}
	return rules
}

func randomSubjects(r *rand.Rand, namespaces []string) []rbacv1.Subject {
	l := make([]rbacv1.Subject, r.IntN(3))
	for i := range l {
		switch pick(r, rbacv1.UserKind, rbacv1.GroupKind, rbacv1.ServiceAccountKind) {
		case rbacv1.UserKind:
			l[i] = rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName,
				Name: pick(r, "certificate:car-1", "system:serviceaccount:"+pick(r, namespaces...)+":app", "app")}
		case rbacv1.GroupKind:
			l[i] = rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName,
				Name: pick(r, "system:serviceaccounts", "system:serviceaccounts:"+pick(r, namespaces...), certificateGroup, "system:authenticated")}
		default:
			l[i] = rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: pick(r, "app", "other"), Namespace: pick(r, namespaces...)}
		}
	}
	return l
}

// made is what a test has put into the API server.
type made struct {
	t      *testing.T
	client *rbacclient.RbacV1Client
	policy *policy
	names  int
}

func (m *made) meta(namespace string) metav1.ObjectMeta {
	m.names++
	return metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("access-%d", m.names)}
}

func (m *made) must(o any, err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	m.policy.put(o)
}

func (m *made) role(namespace string, rules []rbacv1.PolicyRule) rbacv1.RoleRef {
	if namespace == "" {
		o, err := m.client.ClusterRoles().Create(m.t.Context(), &rbacv1.ClusterRole{ObjectMeta: m.meta(""), Rules: rules}, metav1.CreateOptions{})
		m.must(o, err)
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: o.Name}
	}
	o, err := m.client.Roles(namespace).Create(m.t.Context(), &rbacv1.Role{ObjectMeta: m.meta(namespace), Rules: rules}, metav1.CreateOptions{})
	m.must(o, err)
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: o.Name}
}

func (m *made) bind(namespace string, to rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if namespace == "" {
		o, err := m.client.ClusterRoleBindings().Create(m.t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: m.meta(""), RoleRef: to, Subjects: subjects}, metav1.CreateOptions{})
		m.must(o, err)
		return
	}
	o, err := m.client.RoleBindings(namespace).Create(m.t.Context(), &rbacv1.RoleBinding{ObjectMeta: m.meta(namespace), RoleRef: to, Subjects: subjects}, metav1.CreateOptions{})
	m.must(o, err)
}

// settled waits until the API server's authoriser has seen everything so far:
// it watches the four kinds one by one, each in order.
func (m *made) settled(ask ask, namespace string) {
	m.t.Helper()
	all := []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{resource + "/" + subresource}, Verbs: []string{"connect"}}}
	for _, ns := range []string{"", namespace} {
		who := fmt.Sprintf("marker-%s-%d", ns, m.names)
		m.bind(ns, m.role(ns, all), []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: who}})
		q := question{newSubject(who, nil), namespace, "android"}
		err := wait.PollUntilContextTimeout(m.t.Context(), 10*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
			return ask(ctx, q, "connect")
		})
		if err != nil {
			m.t.Fatalf("the API server does not take up the roles: %v", err)
		}
	}
}

func TestPolicyAnswersAsTheAPIServerDoes(t *testing.T) {
	cp := controlplane.ForTest(t)
	client, err := rbacclient.NewForConfig(cp.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	ask, err := askAPI(cp.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	namespaces := []string{cp.Namespace(t, "access"), cp.Namespace(t, "access")}
	m := &made{t: t, client: client, policy: newPolicy()}
	for range 40 {
		namespace := pick(r, "", namespaces[0], namespaces[1])
		ref := m.role(pick(r, "", namespace), randomRules(r))
		if r.IntN(10) == 0 {
			ref.Name = "not-there"
		}
		m.bind(namespace, ref, randomSubjects(r, namespaces))
	}
	m.settled(ask, namespaces[0])
	m.settled(ask, namespaces[1])

	asked, allowed := 0, 0
	for _, namespace := range append(namespaces, "elsewhere") {
		for _, presence := range []string{"android", "ios", "web"} {
			for _, s := range []subjectHandle{
				serviceAccount(namespaces[0], "app", "", "").subject, serviceAccount(namespaces[1], "app", "", "").subject,
				serviceAccount(namespaces[1], "other", "", "").subject, newSubject("certificate:car-1", []string{certificateGroup}),
				newSubject("app", nil),
			} {
				q := question{s, namespace, presence}
				has := m.policy.rights(q)
				for _, v := range verbs {
					want, err := ask(t.Context(), q, v.name)
					if err != nil {
						t.Fatal(err)
					}
					if asked++; want {
						allowed++
					}
					if has.Has(v.right) != want {
						t.Errorf("%s %s on %s/%s: %v here, %v there", s.Value().user, v.name, namespace, presence, !want, want)
					}
				}
			}
		}
	}
	t.Logf("%d of %d were allowed", allowed, asked)
	if allowed == 0 || allowed == asked {
		t.Error("the roles of this test grant all or nothing")
	}
}

func TestPolicyFollowsChanges(t *testing.T) {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "client"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{group}, Resources: []string{"presences/clients"}, Verbs: []string{"connect"}, ResourceNames: []string{"android"}},
	}}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "im", Name: "app"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "client"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "app"}},
	}
	p := newPolicy()
	q := question{serviceAccount("im", "app", "", "").subject, "im", "android"}
	check := func(when string, want server.Rights) {
		t.Helper()
		if got := p.rights(q); got != want {
			t.Errorf("%s: %q, want %q", when, describe(got), describe(want))
		}
	}
	check("with nothing", 0)
	p.put(binding)
	check("with a binding to a role that is not there", 0)
	p.put(role)
	check("with both", server.Connect)
	more := role.DeepCopy()
	more.Rules[0].Verbs = append(more.Rules[0].Verbs, "watch")
	p.put(more)
	check("with a role that has grown", server.Connect|server.Watch)
	other := question{q.subject, "im", "ios"}
	if got := p.rights(other); got != 0 {
		t.Errorf("on another Presence: %q", describe(got))
	}
	p.remove(binding)
	check("without the binding", 0)
}

func BenchmarkArrivals(b *testing.B) {
	p := newPolicy()
	p.putRole(roleKey{"", "client"}, []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{"presences/clients"}, Verbs: []string{"connect"}}})
	for i := range 1000 {
		p.bind("im", fmt.Sprint("b", i), rbacv1.RoleRef{Kind: "ClusterRole", Name: "client"}, []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: fmt.Sprint("app", i)}})
	}
	q := question{serviceAccount("im", "app1", "", "").subject, "im", "android"}
	b.ReportAllocs()
	for b.Loop() {
		p.rights(q)
	}
}
