package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rollcall-dev/rollcall/hack/gobuild"
	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
)

// buildKube builds kube-apiserver and kubectl, which are one binary that acts by
// the name it is called by.
func buildKube(ctx context.Context, root, dir string) error {
	const version = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(assets.KubeVersion, ".")
	minor, _, _ := strings.Cut(rest, ".")
	kube := filepath.Join(dir, "kube")
	if err := gobuild.Run(ctx, gobuild.Build{
		What: "kube-apiserver and kubectl " + assets.KubeVersion,
		Dir:  filepath.Join(root, "hack", "kube"), Packages: []string{"."}, Out: kube,
		LDFlags: fmt.Sprintf("-s -w -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s",
			version, assets.KubeVersion, major, minor),
	}); err != nil {
		return err
	}
	for _, name := range []string{"kube-apiserver", "kubectl"} {
		link := filepath.Join(dir, name)
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("replacing %s: %w", name, err)
		}
		if err := os.Symlink("kube", link); err != nil {
			return fmt.Errorf("naming %s: %w", name, err)
		}
	}
	return nil
}

// buildEtcd builds the etcd that the root go.mod pins.
func buildEtcd(ctx context.Context, root, dir string) error {
	return gobuild.Run(ctx, gobuild.Build{
		What: "etcd", Dir: root, Packages: []string{"go.etcd.io/etcd/server/v3"},
		Out: filepath.Join(dir, "etcd"), LDFlags: "-s -w",
	})
}
