package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Installation is one of several installations of Rollcall that a cluster may
// have, as its parts know it. Each Presence belongs to exactly one, by its
// InstallationLabel: only that one's controllers judge it and write its status,
// only its agents probe for it, and only its servers let its clients in.
//
// +kubebuilder:object:generate=false
type Installation struct {
	// Namespace is where it is installed, and its name: a namespace holds one.
	Namespace string
	// LabelledOnly: it owns nothing that does not name it. False in the one
	// installation of the cluster that also owns what names none, its default.
	LabelledOnly bool
}

// InstallationOf is the namespace of the installation that an object names;
// empty: that is for the cluster's default installation.
func InstallationOf(o metav1.Object) string { return o.GetLabels()[InstallationLabel] }

// Owns tells whether an object belongs to this installation.
func (i Installation) Owns(o metav1.Object) bool { return i.OwnsName(InstallationOf(o)) }

// OwnsName tells whether what names this installation, "" for none, is its own.
func (i Installation) OwnsName(name string) bool {
	if name == "" {
		return !i.LabelledOnly
	}
	return name == i.Namespace
}
