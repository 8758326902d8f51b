package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// wills gives a client of im/quick a will.
func wills(client, payload string) func(*paho.Connect) {
	return func(c *paho.Connect) {
		c.ClientID, c.Username, c.KeepAlive = client, "im/quick", 3 // a lease of 5 s
		c.WillMessage = &paho.WillMessage{Topic: wire.PresenceTopic("im", "quick", client), Payload: []byte(payload), QoS: 1}
	}
}

func TestAWillIsPublishedWhenItsClientGoesOfflineAndNotBefore(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a", watched), start(t, etcd.Endpoints(), "b", watched)
	l := subscribe(t, must(t, b.addr(), id("w"), password("eve")),
		paho.SubscribeOptions{Topic: wire.PresenceTopic("im", "quick", "+"), QoS: 1})
	l.becomes(wire.EveryClient, wire.StateCurrent, "")
	published := func(client string) []string {
		var got []string
		for _, m := range l.of(client) {
			if m.will != "" {
				got = append(got, m.will)
			}
		}
		return got
	}
	for _, c := range []struct {
		name string
		end  func(*v5)
		want []string
	}{
		{"silent", func(c *v5) { c.conn.Close() }, []string{"farewell"}},
		{"leaves", func(c *v5) { _ = c.Disconnect(&paho.Disconnect{}) }, nil},
		{"leaves-with-will", func(c *v5) { _ = c.Disconnect(&paho.Disconnect{ReasonCode: 4}) }, []string{"farewell"}},
		{"moves", func(*v5) { // with another will: it goes offline with that
			c := must(t, b.addr(), wills("moves", "adieu"))
			onlineBeating(t, b, "quick", "moves", c.conn)
			c.conn.Close()
		}, []string{"adieu"}},
		{"moves-without", func(*v5) {
			c := must(t, b.addr(), id("moves-without"), user("im/quick"), every(3))
			onlineBeating(t, b, "quick", "moves-without", c.conn)
			c.conn.Close()
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := must(t, a.addr(), wills(c.name, "farewell"))
			online(t, a, "quick", c.name)
			c.end(client)
			eventually(t, "it is told to be offline", func() bool {
				return slices.ContainsFunc(l.of(c.name), func(m told) bool { return m.State == wire.StateOffline })
			})
			// Another's change comes behind its will.
			must(t, a.addr(), id("behind-"+c.name), user("im/quick"))
			l.becomes("behind-"+c.name, wire.StateOnline, a.name)
			if got := published(c.name); !slices.Equal(got, c.want) {
				t.Errorf("published %q, want %q", got, c.want)
			}
			if got, _ := record(t, a.store, "quick", c.name); !got.Offline || (string(got.Will) != "") != (c.want != nil) {
				t.Errorf("recorded %+v", got)
			}
		})
	}
}

func TestWillsAreRefusedWithTheStandardsReason(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	for _, c := range []struct {
		name   string
		change func(*paho.WillMessage, *paho.WillProperties)
		want   byte
	}{
		{"another's topic", func(w *paho.WillMessage, _ *paho.WillProperties) { w.Topic += "x" }, 0x90},
		{"too long", func(w *paho.WillMessage, _ *paho.WillProperties) { w.Payload = []byte(strings.Repeat("x", 257)) }, 0x83},
		{"retained", func(w *paho.WillMessage, _ *paho.WillProperties) { w.Retain = true }, 0x9a},
		{"QoS 2", func(w *paho.WillMessage, _ *paho.WillProperties) { w.QoS = 2 }, 0x9b},
		{"with a property", func(_ *paho.WillMessage, p *paho.WillProperties) { p.User.Add("a", "b") }, 0x83},
		{"as long as may be", func(w *paho.WillMessage, _ *paho.WillProperties) { w.Payload = []byte(strings.Repeat("x", 256)) }, 0},
		{"delayed", func(_ *paho.WillMessage, p *paho.WillProperties) { p.WillDelayInterval = paho.Uint32(10) }, 0},
	} {
		got := connect5(t, a.addr(), wills("c", "farewell"), func(cp *paho.Connect) {
			cp.WillProperties = &paho.WillProperties{}
			c.change(cp.WillMessage, cp.WillProperties)
		})
		if got.ack.ReasonCode != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got.ack.ReasonCode, c.want)
		}
	}
	if a.refused("will") != 5 {
		t.Errorf("%v refusals were counted, want 5", a.refused("will"))
	}
}
