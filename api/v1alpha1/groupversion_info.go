// Package v1alpha1 is Rollcall's Kubernetes API: Presence, a population whose
// liveness is tracked, and Failover, one decision to move clients.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package=../applyconfiguration
// +groupName=rollcall.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every type in this package.
var GroupVersion = schema.GroupVersion{Group: "rollcall.dev", Version: "v1alpha1"}

// SchemeGroupVersion is GroupVersion under the name that generated apply
// configurations use.
var SchemeGroupVersion = GroupVersion

// SchemeBuilder collects the functions that make this package's types known.
var SchemeBuilder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Presence{}, &PresenceList{}, &Failover{}, &FailoverList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
})

// AddToScheme makes this package's types known to a scheme.
var AddToScheme = SchemeBuilder.AddToScheme
