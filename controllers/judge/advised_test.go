package judge

import (
	"maps"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/internal/store"
)

func TestTheLeastThatAnyLiveServerAdvisesCounts(t *testing.T) {
	says := func(live bool, presence string, networks map[string]int64) evidence.Server {
		return evidence.Server{Live: live, Record: store.Server{Advised: map[string]map[string]int64{presence: networks}}}
	}
	for _, c := range []struct {
		name    string
		servers map[string]evidence.Server
		want    map[string]time.Duration
	}{
		{"nobody advises", map[string]evidence.Server{"a": {Live: true}}, nil},
		{"the least", map[string]evidence.Server{
			"a": says(true, "im/phone", map[string]int64{"cell": 300_000, "wifi": 600_000}),
			"b": says(true, "im/phone", map[string]int64{"cell": 270_000}),
		}, map[string]time.Duration{"cell": 270 * time.Second, "wifi": 10 * time.Minute}},
		{"another Presence's does not count", map[string]evidence.Server{"a": says(true, "im/other", map[string]int64{"cell": 300_000})}, nil},
		{"a server that is gone advises nothing", map[string]evidence.Server{
			"a": says(false, "im/phone", map[string]int64{"cell": 60_000}),
			"b": says(true, "im/phone", map[string]int64{"cell": 300_000}),
		}, map[string]time.Duration{"cell": 5 * time.Minute}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := advised(&Result{Servers: c.servers}, "im/phone"); !maps.Equal(got, c.want) {
				t.Errorf("advised %v, want %v", got, c.want)
			}
		})
	}
}
