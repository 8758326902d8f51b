package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-semver/semver"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// MinVersion of etcd: older servers revoke live leases when their leader
// starves (etcd issue 15247).
const MinVersion = "3.5.13"

// versionTimeout bounds how long Open waits for the version of a server that
// does not answer, once others have.
const versionTimeout = time.Second

// meet waits until etcd answers through its quorum, and checks the version of
// every server that can be reached.
func (s *Store) meet(ctx context.Context, endpoints []string) error {
	for wait := (backoff{}); ; {
		err := s.hello(ctx, endpoints)
		if err == nil || permanent(err) {
			return err
		}
		s.log.Warn("Etcd is away; trying again", "endpoints", endpoints, "error", err)
		if wait.sleep(ctx) != nil {
			return fmt.Errorf("etcd is away: %w", err)
		}
	}
}

func (s *Store) hello(ctx context.Context, endpoints []string) error {
	if err := s.attempt(ctx, opSync, func(ctx context.Context) error {
		_, err := s.client.Get(ctx, nothingKey, clientv3.WithCountOnly())
		return err
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	errs := make([]error, len(endpoints))
	tooOld := make([]error, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() {
			status, err := s.client.Status(ctx, e)
			if err != nil {
				errs[i] = err
				return
			}
			tooOld[i] = checkVersion(e, status.Version)
		})
	}
	wg.Wait()
	met := 0
	for i := range endpoints {
		if tooOld[i] != nil {
			return tooOld[i]
		}
		if errs[i] == nil {
			met++
		}
	}
	if met == 0 {
		return fmt.Errorf("ask etcd's version: %w", errs[0])
	}
	return nil
}

func checkVersion(endpoint, version string) error {
	v, err := semver.NewVersion(version)
	if err != nil {
		return fmt.Errorf("store: etcd at %s calls its version %q: %w", endpoint, version, ErrTooOld)
	}
	if v.LessThan(*semver.New(MinVersion)) {
		return fmt.Errorf("store: etcd at %s is %s, %s or newer is needed: %w", endpoint, version, MinVersion, ErrTooOld)
	}
	return nil
}
