// Package controlplane runs a real etcd and kube-apiserver on the loopback
// interface, for the demo and for tests. It is not a cluster: there are no nodes,
// no scheduler and no controllers of Kubernetes's own, so that a Pod is whatever
// its maker says it is.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
	"github.com/rollcall-dev/rollcall/test/process"
)

// DefaultStartTimeout is enough for two busy cores.
const DefaultStartTimeout = 2 * time.Minute

// Config says where the programs come from, and where they listen. The zero
// Config is good.
type Config struct {
	// Assets is the directory that holds etcd, kube-apiserver and kubectl. Empty:
	// KUBEBUILDER_ASSETS, else what `make assets` left in this repository.
	Assets string
	// Parent is the directory under which the temporary directory with all data,
	// logs and keys is made. Empty: the system's.
	Parent string
	// EtcdPort and APIServerPort are ports on 127.0.0.1. Zero: a free one below the
	// range from which the kernel takes the ports of outgoing connections, so that
	// a server that was away finds its port again.
	EtcdPort, APIServerPort int
	// StartTimeout bounds the start of each program. Zero: DefaultStartTimeout.
	StartTimeout time.Duration
	// APIServerFlags are added to kube-apiserver's own.
	APIServerFlags []string
}

func (c *Config) complete() error {
	for name, port := range map[string]int{"EtcdPort": c.EtcdPort, "APIServerPort": c.APIServerPort} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("%s is %d, which is no port", name, port)
		}
	}
	if c.StartTimeout < 0 {
		return fmt.Errorf("StartTimeout is %s: it cannot be negative", c.StartTimeout)
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = DefaultStartTimeout
	}
	var err error
	c.Assets, err = findAssets(c.Assets)
	return err
}

// findAssets is dir, if it holds the programs, or what there is if dir is empty.
func findAssets(dir string) (string, error) {
	if dir != "" {
		if missing := assets.Missing(dir); len(missing) > 0 {
			return "", fmt.Errorf("%s has no %s", dir, strings.Join(missing, " and no "))
		}
		return dir, nil
	}
	if os.Getenv(assets.Env) != "" {
		return assets.Find("")
	}
	root, err := assets.Root()
	if err != nil {
		return "", err
	}
	return assets.Find(root)
}

// ControlPlane is a running etcd and kube-apiserver. Its methods may be called
// from any goroutine, those of one Daemon from one at a time.
type ControlPlane struct {
	// Etcd is the etcd behind the API server. Rollcall's own keys may live there
	// too: the API server's are under /registry.
	Etcd *Etcd
	// APIServer is the kube-apiserver.
	APIServer *Daemon

	assets     string
	dir        *process.TempDir
	children   *process.Spawner
	pki        *pki
	server     string // URL of the API server
	admin      *rest.Config
	kubeconfig string // of the administrator
}

// Start returns when the API server is ready and has made its first namespaces.
// ctx bounds the start only: Stop ends what was started, and so does the end of
// this process.
func Start(ctx context.Context, config Config) (*ControlPlane, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	dir, err := process.NewTempDir(config.Parent, "rollcall-controlplane-")
	if err != nil {
		return nil, err
	}
	cp := &ControlPlane{assets: config.Assets, dir: dir, children: process.NewSpawner()}
	if err := cp.start(ctx, config); err != nil {
		return nil, errors.Join(err, cp.Stop())
	}
	return cp, nil
}

func (cp *ControlPlane) start(ctx context.Context, config Config) error {
	etcd, err := startEtcd(ctx, cp.children, EtcdConfig{
		Assets: config.Assets, Port: config.EtcdPort, StartTimeout: config.StartTimeout,
	}, cp.dir.Path())
	if err != nil {
		return err
	}
	cp.Etcd = etcd
	cp.pki, err = newPKI(filepath.Join(cp.dir.Path(), "pki"))
	if err != nil {
		return err
	}
	if err := cp.startAPIServer(ctx, config); err != nil {
		return err
	}
	cp.kubeconfig, err = cp.Kubeconfig("admin", "system:masters")
	return err
}

// Stop kills both programs and removes the directory. What they were doing is
// lost: their data goes with the directory.
func (cp *ControlPlane) Stop() error {
	cp.children.Close()
	return cp.dir.Remove()
}

// Dir is the directory with all data, logs (*.log) and keys, which Stop removes.
func (cp *ControlPlane) Dir() string { return cp.dir.Path() }

// URL is the API server's.
func (cp *ControlPlane) URL() string { return cp.server }

// Kubectl is the path of kubectl.
func (cp *ControlPlane) Kubectl() string { return filepath.Join(cp.assets, "kubectl") }

// AdminKubeconfig is the path of a kubeconfig that may do everything.
func (cp *ControlPlane) AdminKubeconfig() string { return cp.kubeconfig }

// AdminConfig is a client configuration that may do everything. It has no limit
// of its own on the rate of requests.
func (cp *ControlPlane) AdminConfig() *rest.Config { return rest.CopyConfig(cp.admin) }

// RESTConfig is the client configuration of a user with a certificate of its
// own. What it may do is RBAC's to say.
func (cp *ControlPlane) RESTConfig(user string, groups ...string) (*rest.Config, error) {
	cert, key, err := cp.pki.client(user, groups)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            cp.server,
		TLSClientConfig: rest.TLSClientConfig{CAData: cp.pki.caPEM, CertData: cert, KeyData: key},
		QPS:             -1,
	}, nil
}
