package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"

	"github.com/rollcall-dev/rollcall/internal/pki"
)

// What the Secrets of an installation are called behind its prefix. An
// authority's key is in a Secret of its own, which no pod mounts. Servers and etcd
// have an authority each: who may come to servers may not come to etcd.
const (
	secretCA         = "-ca-key"
	secretServer     = "-server-tls"
	secretAgent      = "-agent-tls"
	secretEtcdCA     = "-etcd-ca-key"
	secretEtcd       = "-etcd-tls"
	secretEtcdClient = "-etcd-client"
	secretGossip     = "-gossip"
)

// gossipKey is the field of that Secret, keys as --gossip-key-file wants them.
const gossipKey = "key"

func certificatesCommand() *cobra.Command {
	var o struct {
		common
		kubeOptions
		namespace, prefix, instance string
		serverNames, etcdNames      []string
		gossipOnly, remove          bool
	}
	cmd := &cobra.Command{
		Use:   "certificates",
		Short: "Make or renew an installation's certificates and gossip key, as Secrets; does nothing where all is well",
		Long: `Make or renew an installation's certificates and gossip key, as Secrets; does
nothing where all is well. The gossip key is exchanged in three steps, one at
most in each run: the next one is added, used, and the former removed. It begins
when the key is 90 days old, or the Secret has the annotation
rollcall.dev/rotate-gossip-key.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c checks
			o.common.check(&c)
			c.needed("namespace", o.namespace)
			c.needed("prefix", o.prefix)
			if !o.gossipOnly && !o.remove && len(o.serverNames) == 0 {
				c.fail("server-names", "is needed: the names that servers are reached by, comma separated")
			}
			if err := c.err(); err != nil {
				return err
			}
			config, err := o.rest()
			if err != nil {
				return err
			}
			return runPart(cmd.Context(), func(ctx context.Context, _ *errgroup.Group) error {
				client, err := kubernetes.NewForConfig(config)
				if err != nil {
					return err
				}
				m := mint{
					api: client.CoreV1().Secrets(o.namespace), prefix: o.prefix, log: o.logger(), now: time.Now(),
					labels: map[string]string{"app.kubernetes.io/name": "rollcall", "app.kubernetes.io/component": "certificates"},
				}
				if o.instance != "" {
					m.labels["app.kubernetes.io/instance"] = o.instance
				}
				if o.remove {
					return m.removeAll(ctx)
				}
				return m.makeAll(ctx, o.serverNames, o.etcdNames, o.gossipOnly)
			})
		},
	}
	f := cmd.Flags()
	o.common.flags(f)
	o.kubeOptions.flags(f)
	f.StringVar(&o.namespace, "namespace", "", "the installation's `namespace`")
	f.StringVar(&o.prefix, "prefix", "", "the Secrets' names are this and -ca-key, -server-tls, -agent-tls, -etcd-ca-key, -etcd-tls, -etcd-client, -gossip")
	f.StringVar(&o.instance, "instance", "", "the Secrets' label app.kubernetes.io/instance")
	f.StringSliceVar(&o.serverNames, "server-names", nil, "`names` and addresses that servers are reached by")
	f.StringSliceVar(&o.etcdNames, "etcd-names", nil, "`names` and addresses of etcd's members; empty: no certificates for etcd")
	f.BoolVar(&o.gossipOnly, "gossip-only", false, "the gossip key alone: others make the certificates")
	f.BoolVar(&o.remove, "remove", false, "remove the Secrets instead")
	return cmd
}

// mint makes the Secrets of one installation.
type mint struct {
	api    typedcorev1.SecretInterface
	prefix string
	labels map[string]string
	log    *slog.Logger
	now    time.Time
}

func (m *mint) makeAll(ctx context.Context, serverNames, etcdNames []string, gossipOnly bool) error {
	if err := m.gossipKeys(ctx); err != nil || gossipOnly {
		return err
	}
	err := m.family(ctx, secretCA, map[string]pki.Leaf{
		secretServer: {Name: "rollcall-server", Names: serverNames},
		secretAgent:  {Name: "rollcall-agent"},
	})
	if err != nil || len(etcdNames) == 0 {
		return err
	}
	return m.family(ctx, secretEtcdCA, map[string]pki.Leaf{
		secretEtcd:       {Name: "rollcall-etcd", Names: etcdNames},
		secretEtcdClient: {Name: "rollcall"},
	})
}

func (m *mint) removeAll(ctx context.Context) error {
	var failures []error
	for _, suffix := range []string{secretCA, secretServer, secretAgent, secretEtcdCA, secretEtcd, secretEtcdClient, secretGossip} {
		err := m.api.Delete(ctx, m.prefix+suffix, metav1.DeleteOptions{})
		switch {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err): // those that this installation never had
		case err != nil:
			failures = append(failures, fmt.Errorf("removing Secret %s: %w", m.prefix+suffix, err))
		default:
			m.log.Info("Secret removed", "secret", m.prefix+suffix)
		}
	}
	return errors.Join(failures...)
}

// family makes an authority, and what it signs.
func (m *mint) family(ctx context.Context, suffix string, leaves map[string]pki.Leaf) error {
	var authority *pki.Authority
	err := m.ensure(ctx, suffix, corev1.SecretTypeTLS, func(old map[string][]byte) (map[string][]byte, error) {
		var err error
		if len(old) == 0 {
			authority, err = pki.NewAuthority(m.prefix+suffix, m.now)
		} else if authority, err = pki.ParseAuthority(pki.Pair{Cert: old[corev1.TLSCertKey], Key: old[corev1.TLSPrivateKeyKey]}); err == nil {
			authority, err = authority.Renewed(m.now)
		} else {
			// A new one would cut every part off from every other: that is for a person to decide.
			err = fmt.Errorf("it does not hold an authority (delete it to have a new one, then restart every part): %w", err)
		}
		if err != nil {
			return nil, err
		}
		return pairData(authority.Pair), nil
	})
	if err != nil {
		return err
	}
	for suffix, leaf := range leaves {
		err := m.ensure(ctx, suffix, corev1.SecretTypeTLS, func(old map[string][]byte) (map[string][]byte, error) {
			pair, err := authority.Leaf(pki.Pair{Cert: old[corev1.TLSCertKey], Key: old[corev1.TLSPrivateKeyKey]}, leaf, m.now)
			if err != nil {
				return nil, err
			}
			data := pairData(pair)
			data["ca.crt"] = authority.Cert
			return data, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func pairData(p pki.Pair) map[string][]byte {
	return map[string][]byte{corev1.TLSCertKey: p.Cert, corev1.TLSPrivateKeyKey: p.Key}
}

// ensure makes a Secret hold what next makes of what it holds now (nothing, where
// it is absent). It may call next several times: others may write at the same time.
func (m *mint) ensure(ctx context.Context, suffix string, kind corev1.SecretType, next func(old map[string][]byte) (map[string][]byte, error)) error {
	name := m.prefix + suffix
	err := retry.OnError(retry.DefaultBackoff, func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }, func() error {
		secret, err := m.api.Get(ctx, name, metav1.GetOptions{})
		absent := apierrors.IsNotFound(err)
		if err != nil && !absent {
			return err
		}
		if absent {
			secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: m.labels}, Type: kind}
		}
		data, err := next(secret.Data)
		if err != nil || maps.EqualFunc(data, secret.Data, bytes.Equal) {
			return err
		}
		secret.Data = data
		if absent {
			_, err = m.api.Create(ctx, secret, metav1.CreateOptions{})
		} else {
			_, err = m.api.Update(ctx, secret, metav1.UpdateOptions{})
		}
		if err == nil {
			m.log.Info("Secret written", "secret", name, "new", absent)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return nil
}
