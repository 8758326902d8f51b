package store

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// OwnedError says that etcd is another installation's.
type OwnedError struct{ Owner, Claimant string }

func (e *OwnedError) Error() string {
	return fmt.Sprintf("this etcd belongs to the Rollcall installation in namespace %s: give the one in namespace %s an etcd of its own "+
		"(or, if that installation is gone for good, remove all of its keys: etcdctl del --prefix %s)", e.Owner, e.Claimant, root)
}

// Claim makes etcd this installation's, for ever, where it is nobody's yet. An
// OwnedError says that it is another's: two would take each other's servers,
// leaders and directives for their own. Whoever writes calls it first.
func (s *Store) Claim(ctx context.Context, installation string) error {
	var owner string
	err := s.retry(ctx, opClaim, func(ctx context.Context) error {
		got, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(installationKey), "=", 0)).
			Then(clientv3.OpPut(installationKey, installation)).
			Else(clientv3.OpGet(installationKey)).
			Commit()
		if err != nil {
			return err
		}
		owner = installation
		if !got.Succeeded {
			owner = string(got.Responses[0].GetResponseRange().Kvs[0].Value)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: claim etcd for the installation: %w", err)
	}
	if owner != installation {
		return &OwnedError{Owner: owner, Claimant: installation}
	}
	return nil
}
