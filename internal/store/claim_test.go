package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestEtcdBelongsToOneInstallation(t *testing.T) {
	endpoints := storetest.Start(t).Endpoints()
	first, second := openStore(t, endpoints), openStore(t, endpoints)
	for range 2 { // again at every start
		if err := first.Claim(first.ctx, "rollcall-a"); err != nil {
			t.Fatal(err)
		}
	}
	err := second.Claim(second.ctx, "rollcall-b")
	var owned *OwnedError
	if !errors.As(err, &owned) || owned.Owner != "rollcall-a" || !strings.Contains(err.Error(), "give the one in namespace rollcall-b an etcd of its own") {
		t.Fatalf("a second installation is told %v", err)
	}
	if err := second.Claim(second.ctx, "rollcall-a"); err != nil {
		t.Errorf("another part of the first is told %v", err)
	}
}
