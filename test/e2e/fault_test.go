package e2e

import "testing"

func TestAFaultIsMendedOnceAlsoWhenItIsHalfMade(t *testing.T) {
	mended := 0
	mend := func() { mended++ }
	t.Run("made and mended", func(t *testing.T) {
		s := &scene{t: t}
		s.fault(func() {}, mend)()
	})
	if mended != 1 {
		t.Errorf("it was mended %d times", mended)
	}
	t.Run("half made", func(t *testing.T) {
		s := &scene{t: t}
		s.fault(t.SkipNow, mend) // it ends the case as a failure does
	})
	if mended != 2 {
		t.Errorf("one half made was mended %d times", mended-1)
	}
}
