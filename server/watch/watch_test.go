package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a store with one Presence.
type fake struct {
	mu        sync.Mutex
	revision  int64
	history   uint32
	records   map[string]store.KeyedSession
	followers map[int]func(store.PresenceChanges)
	next      int
	lists     int
	away      bool
}

func newFake() *fake {
	return &fake{records: map[string]store.KeyedSession{}, followers: map[int]func(store.PresenceChanges){}}
}

var errAway = errors.New("away")

func (f *fake) FollowPresence(ctx context.Context, _, _ string, tell func(store.PresenceChanges)) {
	f.mu.Lock()
	n := f.next
	f.next++
	f.followers[n] = tell
	tell(store.PresenceChanges{Revision: f.revision, Gap: true, History: f.history})
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followers, n)
}

func (f *fake) ListPresence(_ context.Context, _, _ string, each func(store.KeyedSession) error) (int64, error) {
	f.mu.Lock()
	if f.away {
		f.mu.Unlock()
		return 0, errAway
	}
	f.lists++
	revision := f.revision
	var all []store.KeyedSession
	for _, r := range f.records {
		all = append(all, r)
	}
	f.mu.Unlock()
	for _, r := range all {
		if err := each(r); err != nil {
			return 0, err
		}
	}
	return revision, nil
}

func (f *fake) ReadSessions(_ context.Context, keys []store.SessionKey) ([]store.SessionResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := store.SessionResult{AsOf: f.revision}
	if k, ok := f.records[keys[0].Client]; ok {
		r.Current, r.Revision = k.Session, k.Revision
	}
	return []store.SessionResult{r}, nil
}

// put writes a record, and tells of it unless told is false.
func (f *fake) put(client string, s store.Session, told bool) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision++
	s.Incarnation = "i"
	k := store.KeyedSession{Key: store.SessionKey{Namespace: "im", Presence: "phone", Client: client}, Session: &s, Revision: f.revision}
	f.records[client] = k
	if told {
		for _, tell := range f.followers {
			tell(store.PresenceChanges{Revision: f.revision, Changes: []store.KeyedSession{k}, History: f.history})
		}
	}
	return f.revision
}

func (f *fake) gap(history uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.history = history
	for _, tell := range f.followers {
		tell(store.PresenceChanges{Revision: f.revision, Gap: true, History: history})
	}
}

// sink keeps what it is sent; while blocked it takes nothing.
type sink struct {
	mu      sync.Mutex
	got     []string
	blocked chan struct{} // nil: it is not
}

func (s *sink) Send(ctx context.Context, m watch.Message) error {
	if s.blocked != nil {
		select {
		case <-s.blocked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Will != 0 {
		s.got = append(s.got, fmt.Sprintf("%s will %s %d", m.Client, m.Payload, m.Will))
		return nil
	}
	var p wire.PresenceState
	if err := json.Unmarshal(m.Payload, &p); err != nil {
		return err
	}
	word := fmt.Sprintf("%s %s %d", m.Client, p.State, p.Revision)
	if m.Current {
		word += " current"
	}
	s.got = append(s.got, word)
	return nil
}

func (s *sink) Flush(context.Context) error { return nil }

// take is what was sent since it was last asked.
func (s *sink) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

// follow has a sink follow a topic until the test ends, or it ends by itself:
// then ended says why.
func follow(t *testing.T, h *watch.Hub, client string, current bool, s *sink) (ended <-chan error) {
	t.Helper()
	place, err := h.Join(watch.Topic{Namespace: "im", Presence: "phone", Client: client})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	end := make(chan error, 1)
	go func() {
		defer place.Leave()
		end <- place.Follow(ctx, current, s)
	}()
	synctest.Wait()
	return end
}

func newHub(t *testing.T, f *fake, change ...func(*watch.Config)) *watch.Hub {
	t.Helper()
	c := watch.Config{Store: f, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&c)
	}
	h, err := watch.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (s *sink) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := s.take(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestWhoIsHereAndThenEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(), &sink{}
		f.put("a", store.Session{}, true)
		f.put("b", store.Session{Offline: true}, true)
		h := newHub(t, f)
		follow(t, h, "", true, s)
		s.expect(t, "a online 1 current", "$current current 2 current")
		f.put("a", store.Session{Server: "elsewhere"}, true)
		f.put("a", store.Session{Offline: true, Will: []byte("farewell")}, true)
		f.put("b", store.Session{}, true)
		s.expect(t, "a online 3", "a offline 4", "a will farewell 4", "b online 5")
		// Who comes later is told what is, and not what was.
		late := &sink{}
		follow(t, h, "", true, late)
		late.expect(t, "b online 5 current", "$current current 5 current")
		f.put("b", store.Session{Offline: true}, true)
		late.expect(t, "b offline 6")
		s.expect(t, "b offline 6")
		if len(f.followers) != 1 {
			t.Errorf("%d watches of the store, want one for all", len(f.followers))
		}
	})
}

func TestOneClientAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.put("b", store.Session{Offline: true}, true)
		h := newHub(t, f)
		a, b, only := &sink{}, &sink{}, &sink{}
		follow(t, h, "a", true, a)
		follow(t, h, "b", true, b)
		follow(t, h, "a", false, only)
		f.put("a", store.Session{}, true)
		f.put("c", store.Session{}, true)
		a.expect(t, "a offline 1 current", "a online 2")
		b.expect(t, "b offline 1 current")
		only.expect(t, "a online 2")
		if f.lists > 0 {
			t.Error("all clients were listed for one")
		}
	})
}

func TestChangesDuringTheListingAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(), &sink{blocked: make(chan struct{})}
		f.put("a", store.Session{}, true)
		h := newHub(t, f)
		follow(t, h, "", true, s) // it is listing, and waits for the sink
		f.put("a", store.Session{Offline: true}, true)
		f.put("b", store.Session{}, true)
		close(s.blocked)
		s.expect(t, "a online 1 current", "$current current 1 current", "a offline 2", "b online 3")
	})
}

func TestAfterAGapEverythingIsToldAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(), &sink{}
		h := newHub(t, f)
		follow(t, h, "", true, s)
		s.expect(t, "$current current 0 current")
		f.put("a", store.Session{}, false)
		f.gap(0)
		s.expect(t, "a online 1 current", "$current current 1 current")
		// A rewound store fills again first.
		f.revision, f.records = 0, map[string]store.KeyedSession{}
		f.gap(1)
		s.expect(t)
		f.put("a", store.Session{}, true)
		time.Sleep(29 * time.Second)
		s.expect(t)
		time.Sleep(2 * time.Second)
		s.expect(t, "a online 1 current", "$current current 1 current")
	})
}

func TestAStoreThatIsAwayIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(), &sink{}
		f.away = true
		h := newHub(t, f)
		follow(t, h, "", true, s)
		s.expect(t)
		f.mu.Lock()
		f.away = false
		f.mu.Unlock()
		time.Sleep(2 * time.Second)
		s.expect(t, "$current current 0 current")
	})
}

func TestWhoIsTooSlowIsToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFake(), &sink{}
		h := newHub(t, f, func(c *watch.Config) { c.Log = 8 })
		ended := follow(t, h, "", true, s)
		s.blocked = make(chan struct{})
		for range 64 {
			f.put("a", store.Session{}, true)
		}
		close(s.blocked)
		synctest.Wait()
		if err := <-ended; !errors.Is(err, watch.ErrBehind) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestPlacesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, newFake(), func(c *watch.Config) { c.Subscribers, c.Listeners = 3, 1 })
		all, one := watch.Topic{Namespace: "im", Presence: "phone"}, watch.Topic{Namespace: "im", Presence: "phone", Client: "a"}
		var places []*watch.Place
		for i, c := range []struct {
			topic watch.Topic
			want  error
		}{{all, nil}, {all, watch.ErrFull}, {one, nil}, {one, nil}, {one, watch.ErrFull}} {
			p, err := h.Join(c.topic)
			if !errors.Is(err, c.want) {
				t.Errorf("join %d: %v", i, err)
			}
			if err == nil {
				places = append(places, p)
			}
		}
		if h.Subscribers() != 3 {
			t.Errorf("%d subscribers", h.Subscribers())
		}
		for _, p := range places {
			p.Leave()
			p.Leave()
		}
		if h.Subscribers() != 0 {
			t.Errorf("%d subscribers are left", h.Subscribers())
		}
	})
}
