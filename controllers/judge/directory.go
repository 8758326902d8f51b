package judge

import (
	"cmp"
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// few is how many Presences of one namespace have its pods looked through for each
// of them: that copies only those that are selected. More of them share an index.
const few = 8

// directory finds pods and Services for one enrolment. Where there are many Presences
// in a namespace, what is in it is read once and found by label, not looked through
// for each. A directory is used for one enrolment and no longer, so that it is
// never staler than the cache.
type directory struct {
	cache      client.Reader
	namespaces map[string]*namespace
}

// namespace is what has been read of one.
type namespace struct {
	asked int // how often for pods
	// pods are all, once that was more often than few, and labelled their places by
	// each label that they have.
	pods     []corev1.Pod
	labelled map[pair][]int
	// services are all, and leading the places of those that have a selector: by one
	// pair of it, or, where there is nothing in it that tells pods from others, by the zero pair.
	services []corev1.Service
	leading  map[pair][]int
}

// pair is a label with its value. No label has an empty name.
type pair struct{ key, value string }

func newDirectory(cache client.Reader) *directory {
	return &directory{cache: cache, namespaces: map[string]*namespace{}}
}

func (d *directory) of(name string) *namespace {
	n := d.namespaces[name]
	if n == nil {
		n = &namespace{}
		d.namespaces[name] = n
	}
	return n
}

// pods of a namespace that a selector picks, in no order; what they point to is the cache's.
func (d *directory) pods(ctx context.Context, name string, selector labels.Selector) ([]corev1.Pod, error) {
	n := d.of(name)
	var list corev1.PodList
	if n.asked++; n.asked <= few {
		err := d.cache.List(ctx, &list, client.InNamespace(name),
			client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy)
		return list.Items, err
	}
	if n.labelled == nil {
		if err := d.cache.List(ctx, &list, client.InNamespace(name), client.UnsafeDisableDeepCopy); err != nil {
			return nil, err
		}
		n.index(list.Items)
	}
	var selected []corev1.Pod
	pick := func(i int) {
		if selector.Matches(labels.Set(n.pods[i].Labels)) {
			selected = append(selected, n.pods[i])
		}
	}
	places, found := n.likely(selector)
	for _, i := range places {
		pick(i)
	}
	if !found {
		for i := range n.pods {
			pick(i)
		}
	}
	return selected, nil
}

func (n *namespace) index(pods []corev1.Pod) {
	n.pods, n.labelled = pods, map[pair][]int{}
	for i := range pods {
		for key, value := range pods[i].Labels {
			p := pair{key, value}
			n.labelled[p] = append(n.labelled[p], i)
		}
	}
}

// likely are the places of the fewest pods among which are all that a selector
// picks; false: any may be.
func (n *namespace) likely(selector labels.Selector) (places []int, found bool) {
	requirements, _ := selector.Requirements()
	for _, r := range requirements {
		value, exact := selector.RequiresExactMatch(r.Key())
		if !exact {
			continue
		}
		if these := n.labelled[pair{r.Key(), value}]; !found || len(these) < len(places) {
			places, found = these, true
		}
	}
	return places, found
}

// services of a namespace that may select any of some pods, and none that can't
// be told from those sooner; in no order.
func (d *directory) services(ctx context.Context, name string, pods []corev1.Pod) ([]corev1.Service, error) {
	n := d.of(name)
	if n.leading == nil {
		var list corev1.ServiceList
		if err := d.cache.List(ctx, &list, client.InNamespace(name), client.UnsafeDisableDeepCopy); err != nil {
			return nil, err
		}
		n.file(list.Items)
	}
	var some []corev1.Service
	seen := map[pair]bool{}
	add := func(p pair) {
		places := n.leading[p]
		if len(places) == 0 || seen[p] {
			return
		}
		seen[p] = true
		for _, i := range places {
			some = append(some, n.services[i])
		}
	}
	add(pair{})
	for i := range pods {
		for key, value := range pods[i].Labels {
			add(pair{key, value})
		}
	}
	return some, nil
}

// file puts each Service under that pair of its selector that the fewest others have:
// hundreds may have one in common. AcceptingLabel is none, since it is what is turned.
func (n *namespace) file(services []corev1.Service) {
	n.services, n.leading = services, map[pair][]int{}
	common := map[pair]int{}
	for i := range services {
		for key, value := range services[i].Spec.Selector {
			common[pair{key, value}]++
		}
	}
	for i := range services {
		var rarest pair
		for key, value := range services[i].Spec.Selector {
			p := pair{key, value}
			if key != v1alpha1.AcceptingLabel && (rarest == pair{} || cmp.Or(cmp.Compare(common[p], common[rarest]), cmp.Compare(p.key, rarest.key)) < 0) {
				rarest = p
			}
		}
		if len(services[i].Spec.Selector) > 0 {
			n.leading[rarest] = append(n.leading[rarest], i)
		}
	}
}
