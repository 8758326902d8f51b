package server_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestAReportIsAcknowledgedOnceItIsWritten(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	agent := must(t, a.addr(), id("n1:0"), user("rollcall-system/nodes"), password("agent"), every(1))
	report := func(node string, seq int64, band wire.Band) (byte, error) {
		payload, err := json.Marshal(wire.Report{
			Node: node, Zone: "z1", Boot: 1, Seq: seq,
			Observations: map[string]wire.Observation{a.name: {Band: band, Since: time.Unix(1, 0)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ack, err := agent.Publish(ctx, &paho.Publish{Topic: wire.TopicReport, QoS: 1, Payload: payload})
		if ack == nil {
			t.Fatal(err)
		}
		return ack.ReasonCode, err
	}
	for seq, band := range []wire.Band{wire.BandOK, wire.BandSlow, wire.BandHung} {
		if code, err := report("n1", int64(seq+1), band); err != nil || code != 0 {
			t.Fatalf("report %d: %#x, %v", seq, code, err)
		}
		got := (<-a.store.WatchObservations(ctx)).Put[store.ObservationKey{Server: a.name, Observer: "n1"}]
		if got.Band != band || got.Seq != int64(seq+1) {
			t.Errorf("the store has %+v once report %d is acknowledged", got, seq+1)
		}
	}
	if code, err := report("n2", 1, wire.BandOK); err == nil || code != 0x87 {
		t.Errorf("a report on behalf of another node: %#x, %v", code, err)
	}
	if code, _ := agent.Publish(ctx, &paho.Publish{Topic: wire.TopicReport, QoS: 1, Payload: []byte("{")}); code.ReasonCode != 0x99 {
		t.Errorf("what is no report: %#x", code.ReasonCode)
	}
}
