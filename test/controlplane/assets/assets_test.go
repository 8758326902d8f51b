package assets

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func install(t *testing.T, dir string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	under := func(version string) string { return filepath.Join(root, "bin", "k8s", version+"-"+platform()) }

	t.Setenv(Env, "")
	if _, err := Find(root); !errors.Is(err, ErrNone) {
		t.Errorf("with nothing installed: got %v, want ErrNone", err)
	}

	install(t, under("1.35.0"), Names()...)
	install(t, under("1.36.3"), "etcd", "kubectl")
	if dir, err := Find(root); err != nil || dir != under("1.35.0") {
		t.Errorf("an incomplete directory is passed over: got %q, %v", dir, err)
	}

	install(t, under("1.36.3"), "kube-apiserver")
	if dir, err := Find(root); err != nil || dir != under("1.36.3") {
		t.Errorf("the highest version is taken: got %q, %v", dir, err)
	}

	chosen := filepath.Join(root, "chosen")
	install(t, chosen, "kube-apiserver", "kubectl")
	t.Setenv(Env, chosen)
	if _, err := Find(root); err == nil || !strings.Contains(err.Error(), "no etcd") {
		t.Errorf("the variable names a directory without etcd: got %v", err)
	}
	install(t, chosen, "etcd")
	if dir, err := Find(root); err != nil || dir != chosen {
		t.Errorf("the variable decides: got %q, %v", dir, err)
	}
}

func TestKubeVersionIsThatOfItsModule(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "..", "hack", "kube", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "\tk8s.io/kubernetes v"+KubeVersion+"\n") {
		t.Errorf("hack/kube/go.mod does not require k8s.io/kubernetes v%s", KubeVersion)
	}
}
