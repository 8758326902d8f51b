package controlplane

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig writes the kubeconfig of a user with a certificate of its own, for
// programs started as processes, and returns its path. A second one for the same
// user replaces the first.
func (cp *ControlPlane) Kubeconfig(user string, groups ...string) (string, error) {
	cert, key, err := cp.pki.client(user, groups)
	if err != nil {
		return "", err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["rollcall"] = &clientcmdapi.Cluster{Server: cp.server, CertificateAuthorityData: cp.pki.caPEM}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts["rollcall"] = &clientcmdapi.Context{Cluster: "rollcall", AuthInfo: user}
	config.CurrentContext = "rollcall"

	dir := filepath.Join(cp.Dir(), "kubeconfigs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	// A user may be called system:serviceaccount:…; a path with colons cannot be
	// put in KUBECONFIG.
	path := filepath.Join(dir, fileName(user))
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	return path, nil
}

func fileName(user string) string {
	name := []rune(user)
	for i, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.' && i > 0:
		default:
			name[i] = '_'
		}
	}
	return string(name)
}
