package access

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/rollcall-dev/rollcall/server"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// installation is an Access on an API server of its own.
type installation struct {
	*Access
	t      *testing.T
	cp     *controlplane.ControlPlane
	client kubernetes.Interface
}

// install starts an API server, and an Access that has no more rights there than
// config/rbac gives it.
func install(t *testing.T) *installation {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a kube-apiserver, and -short asks for none")
	}
	cp, err := controlplane.Start(t.Context(), controlplane.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := kubernetes.NewForConfig(cp.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{t: t, cp: cp, client: client}
	for _, ns := range []string{"im", "rollcall-system"} {
		_, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
		in.must(err)
	}
	in.apply("../../config/rbac/roles.yaml")
	in.bind("", "rollcall-server", rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "rollcall-server"})
	config, err := cp.RESTConfig("rollcall-server")
	in.must(err)
	in.Access, err = New(Config{
		Kubernetes: config, Namespace: "rollcall-system", ServiceAccounts: true,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	in.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	in.eventually("access is ready", func() bool { return in.Ready() == nil })
	return in
}

func (in *installation) must(err error) {
	in.t.Helper()
	if err != nil {
		in.t.Fatal(err)
	}
}

func (in *installation) eventually(what string, f func() bool) {
	in.t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !f() {
		select {
		case <-deadline.C:
			in.t.Fatalf("it did not come to pass that %s", what)
		case <-again.C:
		}
	}
}

// apply makes the ClusterRoles of a file.
func (in *installation) apply(path string) {
	in.t.Helper()
	raw, err := os.ReadFile(path)
	in.must(err)
	for _, document := range strings.Split(string(raw), "\n---\n") {
		var role rbacv1.ClusterRole
		in.must(yaml.UnmarshalStrict([]byte(document), &role))
		_, err := in.client.RbacV1().ClusterRoles().Create(in.t.Context(), &role, metav1.CreateOptions{})
		in.must(err)
	}
}

// bind binds a ClusterRole in a namespace, "" for the cluster.
func (in *installation) bind(namespace, role string, to rbacv1.Subject) {
	in.t.Helper()
	ctx, rbac := in.t.Context(), in.client.RbacV1()
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	about := metav1.ObjectMeta{Name: role}
	var err error
	if namespace == "" {
		_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: about, RoleRef: ref, Subjects: []rbacv1.Subject{to}}, metav1.CreateOptions{})
	} else {
		_, err = rbac.RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: about, RoleRef: ref, Subjects: []rbacv1.Subject{to}}, metav1.CreateOptions{})
	}
	in.must(err)
}

// token is that of a pod on a node, for an audience.
func (in *installation) token(namespace, account, pod, node, audience string) string {
	in.t.Helper()
	ctx, core := in.t.Context(), in.client.CoreV1()
	// They may be there already.
	_, _ = core.ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	_, _ = core.Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	made, err := core.Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: account, Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}, metav1.CreateOptions{})
	in.must(err)
	answer, err := core.ServiceAccounts(namespace).CreateToken(ctx, account, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:      []string{audience},
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod, UID: made.UID},
	}}, metav1.CreateOptions{})
	in.must(err)
	return answer.Status.Token
}

func (in *installation) enter(client, token string) (server.Principal, error) {
	ctx, cancel := context.WithTimeout(in.t.Context(), time.Minute)
	defer cancel()
	return in.Authenticate(ctx, server.Credentials{
		Namespace: "im", Presence: "android", Kind: server.Clients, ClientID: client, Password: []byte(token),
	})
}

func TestServiceAccountsOfACluster(t *testing.T) {
	in := install(t)
	app := in.token("im", "app", "app-7d4f-x2x", "n1", "rollcall")
	other := in.token("im", "other", "other-1", "n1", "rollcall")
	elsewhere := in.token("im", "app", "app-7d4f-y3y", "n1", "vault")
	agent := in.token("rollcall-system", "rollcall-agent", "rollcall-agent-1", "n1", "rollcall")
	account := func(namespace, name string) rbacv1.Subject {
		return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}
	}
	in.bind("im", "rollcall-client", account("im", "app"))
	in.bind("rollcall-system", "rollcall-reporter", account("rollcall-system", "rollcall-agent"))
	may := func(client, token string) bool {
		p, err := in.enter(client, token)
		return err == nil && p.Rights.Has(server.Connect)
	}
	in.eventually("the grant is known", func() bool { return may("app-1", app) })

	if may("other", other) {
		t.Error("who was granted nothing may connect")
	}
	if _, err := in.enter("app-1", elsewhere); !errors.Is(err, server.ErrCredentials) {
		t.Errorf("a token for somebody else: %v", err)
	}
	node := func(client, token string) server.Rights {
		p, err := in.Authenticate(t.Context(), server.Credentials{
			Namespace: "rollcall-system", Presence: "nodes", Kind: server.Nodes, ClientID: client, Password: []byte(token),
		})
		in.must(err)
		return p.Rights
	}
	in.eventually("the agent's grant is known", func() bool { return node("n1:0", agent).Has(server.Report) })
	if got := node("n2:0", agent); got != 0 {
		t.Errorf("an agent may %q as another node", describe(got))
	}

	in.eventually("the API server has been asked, and agrees", func() bool {
		return testutil.ToFloat64(in.metrics.reviews.WithLabelValues(reviewSame)) >= 3
	})
	if n := testutil.ToFloat64(in.metrics.reviews.WithLabelValues(reviewDifferent)); n != 0 {
		t.Errorf("it differs in %v", n)
	}

	in.cp.APIServer.Kill()
	p, err := in.enter("app-2", app)
	if err != nil || !p.Rights.Has(server.Connect) {
		t.Errorf("while the API server is away: %v, %v", p.Rights, err)
	}
	if got := in.Revalidate("im", "android", p.Name); !got.Has(server.Connect) {
		t.Error("while the API server is away, a right is lost")
	}
	in.must(in.cp.APIServer.Restart(t.Context()))

	in.must(in.client.RbacV1().RoleBindings("im").Delete(t.Context(), "rollcall-client", metav1.DeleteOptions{}))
	in.eventually("the right is lost", func() bool { return !in.Revalidate("im", "android", p.Name).Has(server.Connect) })
	if may("app-1", app) {
		t.Error("who has lost the right may connect")
	}
}
