package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/rollcall-dev/rollcall/test/process"
)

// EtcdConfig says where etcd comes from, and where it listens. The zero value is
// good; the fields mean what they mean in Config.
type EtcdConfig struct {
	Assets       string
	Parent       string
	Port         int
	StartTimeout time.Duration
}

// Etcd is a single etcd on the loopback interface, without TLS. It does not
// fsync: data outlives the process, not the machine.
type Etcd struct {
	*Daemon
	endpoint string
	stop     func() error
}

// StartEtcd starts an etcd alone. ctx bounds the start only: Stop ends it, and so
// does the end of this process.
func StartEtcd(ctx context.Context, config EtcdConfig) (*Etcd, error) {
	var err error
	if config.Assets, err = findAssets(config.Assets); err != nil {
		return nil, err
	}
	if config.StartTimeout == 0 {
		config.StartTimeout = DefaultStartTimeout
	}
	dir, err := process.NewTempDir(config.Parent, "rollcall-etcd-")
	if err != nil {
		return nil, err
	}
	children := process.NewSpawner()
	stop := func() error {
		children.Close()
		return dir.Remove()
	}
	etcd, err := startEtcd(ctx, children, config, dir.Path())
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	etcd.stop = stop
	return etcd, nil
}

// Endpoint is the URL for clients.
func (e *Etcd) Endpoint() string { return e.endpoint }

// Stop kills etcd and removes its data. That of a ControlPlane ends with it: its
// Stop does nothing.
func (e *Etcd) Stop() error {
	if e.stop == nil {
		return nil
	}
	return e.stop()
}

func startEtcd(ctx context.Context, children *process.Spawner, config EtcdConfig, dir string) (*Etcd, error) {
	etcd := &Etcd{}
	err := onFreePort(config.Port, func(port int) error {
		etcd.endpoint = "http://" + address(port)
		etcd.Daemon = &Daemon{
			name: "etcd", port: port, path: filepath.Join(config.Assets, "etcd"),
			log: filepath.Join(dir, "etcd.log"), timeout: config.StartTimeout, children: children,
			ready: func(ctx context.Context) error { return get(ctx, http.DefaultClient, etcd.endpoint+"/health") },
			args: []string{
				"--name=default", "--data-dir=" + filepath.Join(dir, "etcd"), "--log-level=warn", "--unsafe-no-fsync",
				"--listen-client-urls=" + etcd.endpoint, "--advertise-client-urls=" + etcd.endpoint,
				// It has no peers, but insists on listening for some.
				"--listen-peer-urls=http://127.0.0.1:0",
			},
		}
		return etcd.start(ctx)
	})
	if err != nil {
		return nil, err
	}
	return etcd, nil
}

// get succeeds when url answers 200.
func get(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return errors.Join(fmt.Errorf("%s answers %s: %s", url, resp.Status, body), err)
}
