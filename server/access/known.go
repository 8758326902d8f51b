package access

import (
	"context"
	"strings"
	"sync"
	"time"
)

// forgetAfter is how long a principal is remembered whom nobody asks about:
// those with sessions are asked about far more often.
const forgetAfter = 10 * time.Minute

// known are the principals that were let in and whose groups their names don't
// tell, so that a server need not keep them with each session. Where two
// credentials of one name have different groups, those of the last count.
type known struct {
	mu  sync.Mutex
	all map[string]*remembered
}

type remembered struct {
	subject subjectHandle
	used    time.Time
}

func (k *known) note(s subjectHandle, now time.Time) {
	if strings.HasPrefix(s.Value().user, serviceAccountPrefix) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil {
		k.all = map[string]*remembered{}
	}
	k.all[s.Value().user] = &remembered{s, now}
}

func (k *known) find(name string, now time.Time) (subjectHandle, bool) {
	if account, ok := strings.CutPrefix(name, serviceAccountPrefix); ok {
		namespace, account, _ := strings.Cut(account, ":")
		return serviceAccount(namespace, account, "", "").subject, true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r, ok := k.all[name]
	if !ok {
		return subjectHandle{}, false
	}
	r.used = now
	return r.subject, true
}

// run forgets those who are not asked about, until the context ends.
func (k *known) run(ctx context.Context, now func() time.Time) error {
	tick := time.NewTicker(forgetAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			k.forget(now())
		}
	}
}

func (k *known) forget(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, r := range k.all {
		if now.Sub(r.used) >= forgetAfter {
			delete(k.all, name)
		}
	}
}
