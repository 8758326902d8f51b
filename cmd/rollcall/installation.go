package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// installationOptions say which of the installations in a cluster this is.
type installationOptions struct {
	namespace           string
	defaultInstallation bool
}

func (o *installationOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.namespace, "namespace", "", "the installation's `namespace`, and this pod's")
	f.BoolVar(&o.defaultInstallation, "default-installation", true,
		"Presences without the label "+v1alpha1.InstallationLabel+" are this installation's too; of several in a cluster this may be so in one")
}

func (o *installationOptions) check(c *checks) { c.needed("namespace", o.namespace) }

// installation as the API has it.
func (o *installationOptions) installation() v1alpha1.Installation {
	return v1alpha1.Installation{Namespace: o.namespace, LabelledOnly: !o.defaultInstallation}
}

// claim makes sure that etcd is this installation's: two would take each other's
// servers, leaders and directives for their own.
func (o *installationOptions) claim(ctx context.Context, s *store.Store) error {
	return s.Claim(ctx, o.namespace)
}
