package controlplane

import (
	"context"
	"fmt"
	"path/filepath"

	"k8s.io/client-go/rest"
)

// startAPIServer starts kube-apiserver with RBAC, a token issuer (so that the
// TokenRequest API works) and without what would wait for a controller manager.
func (cp *ControlPlane) startAPIServer(ctx context.Context, config Config) error {
	return onFreePort(config.APIServerPort, func(port int) error {
		cp.server = "https://" + address(port)
		var err error
		if cp.admin, err = cp.RESTConfig("admin", "system:masters"); err != nil {
			return err
		}
		client, err := rest.HTTPClientFor(cp.admin)
		if err != nil {
			return fmt.Errorf("making a client for the API server: %w", err)
		}
		const issuer = "https://kubernetes.default.svc.cluster.local"
		cp.APIServer = &Daemon{
			name: "kube-apiserver", port: port, path: filepath.Join(cp.assets, "kube-apiserver"),
			log: filepath.Join(cp.Dir(), "kube-apiserver.log"), timeout: config.StartTimeout, children: cp.children,
			ready: func(ctx context.Context) error {
				if err := get(ctx, client, cp.server+"/readyz"); err != nil {
					return err
				}
				// Made after it is ready, by the API server itself.
				return get(ctx, client, cp.server+"/api/v1/namespaces/default")
			},
			args: append([]string{
				"--etcd-servers=" + cp.Etcd.Endpoint(),
				"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
				"--cert-dir=" + cp.pki.dir,
				"--tls-cert-file=" + cp.pki.file("apiserver.crt"), "--tls-private-key-file=" + cp.pki.file("apiserver.key"),
				"--client-ca-file=" + cp.pki.file("ca.crt"),
				"--authorization-mode=RBAC", "--allow-privileged",
				"--service-cluster-ip-range=10.96.0.0/16",
				"--service-account-issuer=" + issuer,
				"--service-account-key-file=" + cp.pki.file("serviceaccount.key"),
				"--service-account-signing-key-file=" + cp.pki.file("serviceaccount.key"),
				// Nobody makes the service accounts that it would insist on.
				"--disable-admission-plugins=ServiceAccount",
				// The endpoints of service "kubernetes" may not be on the loopback.
				"--endpoint-reconciler-type=none",
			}, config.APIServerFlags...),
		}
		return cp.APIServer.start(ctx)
	})
}
