package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// Clients come to either server and leave again at any moment, while the servers
// send them to each other.
func TestWhoeverLeavesWhileMovedIsRecordedAsGone(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a"), start(t, etcd.Endpoints(), "b")
	l := lead(t, b.store)
	ctx, cancel := context.WithCancel(context.Background())
	var everybody sync.WaitGroup
	const people = 40
	for i := range people {
		everybody.Go(func() {
			for ctx.Err() == nil {
				c, err := client.New(client.Config{
					Servers: []string{a.addr(), b.addr()}, Presence: "im/quick", ClientID: fmt.Sprint("c", i), Password: "alice",
					Interval: time.Second,
				})
				if err != nil {
					t.Error(err)
					return
				}
				stay, leave := context.WithTimeout(ctx, time.Duration(rand.IntN(600))*time.Millisecond)
				<-stay.Done()
				leave()
				_ = c.Close() // whoever was just sent away has nobody to tell
			}
		})
	}
	for n := range 40 {
		from, to := a, b
		if n%2 == 1 {
			from, to = b, a
		}
		failover := fmt.Sprint("im/f", n)
		direct(t, l, from, store.Directive{Failover: failover, Count: 10, Rate: 1000, Targets: []store.Target{{Server: to.name, Address: to.addr(), Weight: 1}}})
		eventually(t, "some are moved", func() bool {
			d := entry(t, b.store, from.name).Drain
			return d != nil && d.Failover == failover && d.Done
		})
	}
	cancel()
	everybody.Wait()
	for i := range people {
		name := fmt.Sprint("c", i)
		eventually(t, name+" is recorded as gone", func() bool {
			s, revision := record(t, a.store, "quick", name)
			return revision == 0 || s.Offline
		})
	}
}
