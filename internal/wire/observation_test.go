package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// Parts of two adjacent versions work together: who knows nothing of strains reads what
// tells of one, and what tells of none is as it was.
func TestStrainIsOneFieldMore(t *testing.T) {
	plain, err := json.Marshal(Observation{Band: BandOK})
	if err != nil || strings.Contains(string(plain), "strain") {
		t.Errorf("without one it is %s, %v", plain, err)
	}
	with, err := json.Marshal(Observation{Band: BandOK, Strain: Strain{Kind: "throttled", Detail: "throttled 93 % of the last 2s"}})
	if err != nil {
		t.Fatal(err)
	}
	var before struct{ Band Band }
	if err := json.Unmarshal(with, &before); err != nil || before.Band != BandOK {
		t.Errorf("read by an older part it is %+v, %v", before, err)
	}
	var o Observation
	if err := json.Unmarshal(with, &o); err != nil || o.Strain.Kind != "throttled" || o.Strain.Detail == "" {
		t.Errorf("read again it is %+v, %v", o, err)
	}
	if err := json.Unmarshal(plain, &o); err != nil {
		t.Error(err)
	}
}
