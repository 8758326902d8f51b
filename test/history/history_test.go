package history

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// at makes an operation that took from call to back.
func at(call, back int64, input any) porcupine.Operation {
	return porcupine.Operation{Input: input, Call: call, Return: back}
}

func TestTheModelTellsAStaleWriteFromATakeover(t *testing.T) {
	const c = "c"
	online := func(number, base, server int) Put {
		return Put{Client: c, Number: number, Base: base, Server: server}
	}
	offline := func(number, base, server int) Put {
		return Put{Client: c, Number: number, Base: base, Server: server, Offline: true}
	}
	beat := func(server int) Beat { return Beat{Client: c, Server: server} }
	// The client comes to 0, and goes on to 1.
	moved := []porcupine.Operation{
		at(0, 1, beat(0)), at(0, 2, online(1, 0, 0)),
		at(10, 11, beat(1)), at(10, 12, online(2, 1, 1)),
	}
	for _, test := range []struct {
		name string
		ops  []porcupine.Operation
		want bool
	}{
		{"a client that moves is taken over", nil, true},
		{"the old server writes again, without a packet since", []porcupine.Operation{at(13, 20, online(3, 2, 0))}, false},
		{"the old server has had a packet since", []porcupine.Operation{at(13, 14, beat(0)), at(13, 20, online(3, 2, 0))}, true},
		{"a packet was under way to the old server while the new one wrote", []porcupine.Operation{at(9, 15, beat(0)), at(9, 20, online(3, 2, 0))}, true},
		{"a packet to the old server had ended before the new one wrote", []porcupine.Operation{at(3, 5, beat(0)), at(3, 20, online(3, 2, 0))}, false},
		{"the old server says offline", []porcupine.Operation{at(13, 20, offline(3, 2, 0))}, false},
		{"the owner says offline", []porcupine.Operation{at(13, 20, offline(3, 2, 1))}, true},
		{"the owner says offline twice", []porcupine.Operation{at(13, 20, offline(3, 2, 1)), at(13, 20, offline(4, 3, 1))}, false},
		{"a third server that never heard of the client", []porcupine.Operation{at(13, 20, online(3, 2, 2))}, false},
		{"a write over another record than there is", []porcupine.Operation{at(13, 20, online(3, 1, 1))}, false},
		{"etcd is restored, and the old server owns the record again", []porcupine.Operation{
			at(13, 15, Restore{Client: c, To: 1}), at(16, 20, offline(3, 1, 0)),
		}, true},
		{"etcd is restored, and what was heard since the lost record counts for nothing", []porcupine.Operation{
			at(13, 14, online(3, 2, 1)), at(15, 16, Restore{Client: c, To: 1}), at(17, 20, online(4, 1, 2)),
		}, false},
		{"etcd is wiped, and the client's server writes it again", []porcupine.Operation{
			at(13, 15, Restore{Client: c}), at(16, 20, online(3, 0, 1)),
		}, true},
		{"etcd is wiped, and somebody else writes", []porcupine.Operation{
			at(13, 15, Restore{Client: c}), at(16, 20, online(3, 0, 2)),
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := append(append([]porcupine.Operation{}, moved...), test.ops...)
			if got := porcupine.CheckOperations(Model(), all); got != test.want {
				t.Errorf("the model says %v, want %v", got, test.want)
			}
		})
	}
}
