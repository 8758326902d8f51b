// Package assets finds the directory that holds etcd, kube-apiserver and
// kubectl. It only looks: what is missing is downloaded or built by hack/assets.
package assets

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Env names the variable that chooses the directory, as everywhere among
// controllers.
const Env = "KUBEBUILDER_ASSETS"

// KubeVersion is the Kubernetes that hack/kube builds. A test keeps it equal to
// that module's go.mod.
const KubeVersion = "1.36.3"

// ErrNone says that no directory under bin/ holds all three programs.
var ErrNone = errors.New("no kube-apiserver, kubectl and etcd: run `make assets`, or set " + Env)

// Names are the programs that a directory must hold.
func Names() []string { return []string{"etcd", "kube-apiserver", "kubectl"} }

// Find returns the directory to use: that of Env where it is set, else the one
// of the highest version under root/bin/k8s, where both hack/assets and
// setup-envtest put theirs. It returns ErrNone where there is none.
func Find(root string) (string, error) {
	if dir := os.Getenv(Env); dir != "" {
		if missing := Missing(dir); len(missing) > 0 {
			return "", fmt.Errorf("%s is %s, which has no %s", Env, dir, strings.Join(missing, " and no "))
		}
		return dir, nil
	}
	dirs, err := Installed(root)
	if err != nil {
		return "", err
	}
	for _, dir := range dirs {
		if len(Missing(dir)) == 0 {
			return dir, nil
		}
	}
	return "", ErrNone
}

// Installed returns the directories under root/bin/k8s made for this platform,
// the highest version first, complete or not.
func Installed(root string) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "bin", "k8s", "*-"+platform()))
	if err != nil {
		return nil, fmt.Errorf("looking for assets: %w", err)
	}
	slices.Reverse(dirs) // Glob sorts by name, and all minor versions here have two digits
	return dirs, nil
}

// Root is the repository's directory, at or above the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/rollcall-dev/rollcall\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("run this inside Rollcall's repository")
		}
		dir = parent
	}
}

// BuiltDir is where what is built from hack/kube goes.
func BuiltDir(root string) string {
	return filepath.Join(root, "bin", "k8s", KubeVersion+"-"+platform())
}

// Missing returns the programs that dir has not, or has but cannot be executed.
func Missing(dir string) []string {
	var missing []string
	for _, name := range Names() {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

func platform() string { return runtime.GOOS + "-" + runtime.GOARCH }
