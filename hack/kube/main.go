// Command kube is kube-apiserver and kubectl in one binary: it acts as the
// program whose name it is called by. Only the demo and the tests run it; it has
// a module of its own so that nothing of Kubernetes's own dependencies reaches
// Rollcall's.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	programs := map[string]func() *cobra.Command{
		"kube-apiserver": apiserver.NewAPIServerCommand,
		"kubectl":        kubectl.NewDefaultKubectlCommand,
	}
	name := filepath.Base(os.Args[0])
	program, ok := programs[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "kube: no program is called %q (want kube-apiserver or kubectl)\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(program()))
}
