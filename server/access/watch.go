package access

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	rbacclient "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;rolebindings;clusterroles;clusterrolebindings,verbs=list;watch

// watch feeds a policy from an API server. While that is away, the policy is
// what it was.
type watch struct {
	informers []cache.SharedInformer
	handled   []cache.ResourceEventHandlerRegistration
}

func newWatch(config *rest.Config, p *policy, log *slog.Logger) (*watch, error) {
	client, err := rbacclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	w := &watch{}
	for _, kind := range []struct {
		resource string
		object   runtime.Object
	}{
		{"roles", &rbacv1.Role{}}, {"clusterroles", &rbacv1.ClusterRole{}},
		{"rolebindings", &rbacv1.RoleBinding{}}, {"clusterrolebindings", &rbacv1.ClusterRoleBinding{}},
	} {
		source := cache.NewListWatchFromClient(client.RESTClient(), kind.resource, "", fields.Everything())
		i := cache.NewSharedInformer(source, kind.object, 0)
		if err := i.SetTransform(lighten); err != nil {
			return nil, err
		}
		err := i.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			log.Warn("Roles could not be watched, will try again", "resource", kind.resource, "error", err)
		})
		if err != nil {
			return nil, err
		}
		handled, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    p.put,
			UpdateFunc: func(_, o any) { p.put(o) },
			DeleteFunc: func(o any) {
				if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = last.Obj
				}
				p.remove(o)
			},
		})
		if err != nil {
			return nil, err
		}
		w.informers, w.handled = append(w.informers, i), append(w.handled, handled)
	}
	return w, nil
}

// lighten drops what nobody here reads.
func lighten(o any) (any, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return nil, fmt.Errorf("a role without metadata: %w", err)
	}
	m.SetManagedFields(nil)
	m.SetAnnotations(nil)
	return o, nil
}

func (w *watch) run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, i := range w.informers {
		running.Go(func() { i.RunWithContext(ctx) })
	}
	running.Wait()
	return nil
}

// synced tells whether everything was read once.
func (w *watch) synced() bool {
	for _, h := range w.handled {
		if !h.HasSynced() {
			return false
		}
	}
	return true
}
