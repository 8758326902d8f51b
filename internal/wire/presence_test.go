package wire_test

import (
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestPresenceTopicsHaveOneReading(t *testing.T) {
	for _, c := range []struct{ topic, namespace, presence, client string }{
		{"$rollcall/presence/im/phone/alice", "im", "phone", "alice"},
		{"$rollcall/presence/im/phone/+", "im", "phone", "+"},
		{"$rollcall/presence/im/phone/$current", "im", "phone", wire.EveryClient},
		{topic: "$rollcall/presence/im/phone"},
		{topic: "$rollcall/presence/im/phone/"},
		{topic: "$rollcall/presence/im/phone/#"},
		{topic: "$rollcall/presence/im/phone/a/b"},
		{topic: "$rollcall/presence/im/phone/a+"},
		{topic: "$rollcall/presence/+/phone/alice"},
		{topic: "$rollcall/presence/im/+/alice"},
		{topic: "$rollcall/presence/#"},
		{topic: "$rollcall/presence//phone/alice"},
		{topic: "$rollcall/presence/im/phone/" + strings.Repeat("a", wire.MaxClientID+1)},
		{topic: "im/phone/alice"},
		{topic: ""},
	} {
		namespace, presence, client, ok := wire.ParsePresenceTopic(c.topic)
		if namespace != c.namespace || presence != c.presence || client != c.client || ok != (c.client != "") {
			t.Errorf("%q: %q, %q, %q, %v", c.topic, namespace, presence, client, ok)
		}
		if ok && wire.PresenceTopic(namespace, presence, client) != c.topic {
			t.Errorf("%q is put together as %q", c.topic, wire.PresenceTopic(namespace, presence, client))
		}
	}
}
