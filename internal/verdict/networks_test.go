package verdict

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestTheNetworkThatFailedIsNamedWhereTheyAreApart(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	node := func(online bool, says wire.NodeWord) NodeEvidence {
		e := NodeEvidence{Name: "n1", Beats: []Beats{{Online: online, Seen: now, ServerState: Alive}}}
		for i, r := range []string{"n2", "n3"} {
			o := Observer{Name: r, Zone: string(rune('a' + i))}
			e.Reporters = append(e.Reporters, o)
			e.Words = append(e.Words, Word{Reporter: o, Says: string(says), Seen: now, Healthy: true, Online: true})
		}
		return e
	}
	for _, c := range []struct {
		name     string
		evidence NodeEvidence
		state    State
		words    string
	}{
		{"beats are lost", node(false, wire.NodeAlive), Silent, "the pods' network has failed there, and the nodes' has not"},
		{"gossip is lost", node(true, wire.NodeDead), Isolated, "the nodes' network has failed there, and the pods' has not"},
		{"both are lost", node(false, wire.NodeDead), Dead, ""},
		{"neither is", node(true, wire.NodeAlive), Alive, ""},
	} {
		for _, apart := range []bool{false, true} {
			v := Nodes(World{Now: now, Warm: true, Apart: apart}, []NodeEvidence{c.evidence}, nil, Brake{}).Verdicts["n1"]
			want := c.words != "" && apart
			if v.State != c.state || strings.Contains(v.Message, "network has failed") != want || want && !strings.Contains(v.Message, c.words) {
				t.Errorf("%s, apart %v: %s, %s", c.name, apart, v.State, v.Message)
			}
		}
	}
}
