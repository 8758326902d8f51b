package server

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestTheFirstOverrideThatFitsBoundsTheInterval(t *testing.T) {
	duration := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	p := presenceOf(v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{Interval: v1alpha1.IntervalBounds{
		Min: duration(30 * time.Second), Max: duration(10 * time.Minute),
		Overrides: []v1alpha1.IntervalOverride{
			{Network: "cell", Region: "cn", Max: duration(270 * time.Second)},
			{Network: "cell", Min: duration(time.Minute), Max: duration(8 * time.Minute)},
			{Region: "cn", Max: duration(9 * time.Minute)},
			{Network: "satellite", Min: duration(5 * time.Minute)},
		},
	}}})
	for _, c := range []struct {
		name, network, region string
		lo, hi                time.Duration
		counted               string
	}{
		{"who says nothing", "", "", 30 * time.Second, 10 * time.Minute, "unknown"},
		{"both fit", "cell", "cn", 30 * time.Second, 270 * time.Second, "cell"},
		{"only the network fits", "cell", "de", time.Minute, 8 * time.Minute, "cell"},
		{"only the region fits", "wifi", "cn", 30 * time.Second, 9 * time.Minute, "wifi"},
		{"a word of its own", "satellite", "", 5 * time.Minute, 10 * time.Minute, "satellite"},
		{"a word that nobody knows", "pigeon", "", 30 * time.Second, 10 * time.Minute, "other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := p.at(c.network, c.region)
			if got.MinInterval != c.lo || got.MaxInterval != c.hi || got.network != c.counted {
				t.Errorf("%v to %v, counted as %s", got.MinInterval, got.MaxInterval, got.network)
			}
			if back := got.at("", ""); back != p.at("", "") {
				t.Errorf("back from there: %+v", back)
			}
			if got.at(c.network, c.region) != got {
				t.Error("the same place twice is not the same")
			}
		})
	}
}

func TestReportsAreAdvisedAndBounded(t *testing.T) {
	o := newOutcomes(nil)
	if o.says() != nil {
		t.Error("it advises without a report")
	}
	for range 10 { // one client, however often
		o.add(network{"im/phone", "cell"}, "c", []wire.Outcomes{{Interval: 60_000, Answered: 156, Lost: 100}})
	}
	if said := o.says(); said != nil {
		t.Errorf("one client has advised %v", said)
	}
	for i := range 40 { // some may count as one
		o.add(network{"im/phone", "cell"}, fmt.Sprint("c", i), []wire.Outcomes{{Interval: 300_000, Answered: 30}, {Interval: 600_000, Answered: 20, Lost: 5}})
	}
	said := o.says()
	if len(said) != 1 || said["im/phone"]["cell"] != 300_000 {
		t.Errorf("advised %v", said)
	}
	o.add(network{"im/phone", "cell"}, "c", []wire.Outcomes{{Interval: 300_000, Answered: 1}})
	if now := o.says(); len(now) != 1 || &now == &said || now["im/phone"]["cell"] != 300_000 {
		t.Errorf("advised %v", now)
	}
	for i := range 2 * maxNetworks {
		o.add(network{"im/p" + string(rune('a'+i%26)) + string(rune('a'+i/26)), "wifi"}, "c", []wire.Outcomes{{Interval: 60_000, Answered: 256}})
	}
	if len(o.all) != maxNetworks {
		t.Errorf("%d networks are kept, want %d", len(o.all), maxNetworks)
	}
}
