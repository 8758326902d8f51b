package store

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestOpenWaitsForEtcd(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	etcd.Stop()
	opened, told := make(chan *Store, 1), make(chan string, 100)
	go func() {
		s, err := Open(context.Background(), Config{
			Endpoints: etcd.Endpoints(),
			Logger:    slog.New(slog.NewTextHandler(lines(told), nil)),
		})
		if err != nil {
			t.Errorf("open: %v", err)
		}
		opened <- s
	}()
	for range 2 {
		if line := next(t, told); !strings.Contains(line, "Etcd is away") {
			t.Errorf("it says %q", line)
		}
	}
	if len(opened) > 0 {
		t.Fatal("opened without an etcd")
	}
	etcd.Restart()
	s := next(t, opened)
	until(t, "etcd is there", func() bool { return s.Away(time.Now()) == 0 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// lines hands on what is logged.
type lines chan<- string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	etcd.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Config{Endpoints: etcd.Endpoints()}); err == nil {
		t.Error("opened")
	}
}

func TestOpenRefusesAnEmptyConfig(t *testing.T) {
	for _, endpoints := range [][]string{nil, {""}} {
		if _, err := Open(context.Background(), Config{Endpoints: endpoints}); err == nil {
			t.Errorf("opened %q", endpoints)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for version, ok := range map[string]bool{
		"3.5.13": true, "3.5.21": true, "3.6.0": true, "3.7.0-rc.1": true, "4.0.0": true,
		"3.5.12": false, "3.4.31": false, "3.5.13-rc.0": false, "2.3.8": false, "": false, "new": false,
	} {
		if err := checkVersion("here", version); ok != (err == nil) || err != nil && !errors.Is(err, ErrTooOld) {
			t.Errorf("%q: %v", version, err)
		}
	}
}

func TestAStoppedProcessKnowsThatItHasHeardNothing(t *testing.T) {
	t.Parallel()
	way := storetest.Start(t).Proxy()
	s := openStore(t, way.Endpoints())
	until(t, "etcd answers", func() bool { return s.Away(s.clock()) == 0 })
	way.Cut() // or it answers before it is looked
	s.jumped.Store(int64(10 * time.Second))
	if away := s.Away(s.clock()); away < 8*time.Second {
		t.Errorf("away for %v, after a gap of 10 s", away)
	}
	way.Mend()
	until(t, "etcd has answered", func() bool { return s.Away(s.clock()) == 0 })
}
