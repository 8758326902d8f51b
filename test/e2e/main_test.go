package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// Gate is the environment variable without which nothing is done: the suite
// installs Rollcall, breaks nodes and uninstalls it again, so that it must be
// asked for by more than a KUBECONFIG.
const gate = "ROLLCALL_E2E"

var (
	image     = flag.String("image", "", "Rollcall's image in the cluster, `repository:tag`; empty: the chart's own, so that nothing is set at all")
	mosquitto = flag.String("mosquitto", "eclipse-mosquitto:2", "`image` with mosquitto_sub and a shell")
	// Only TestServices needs it.
	serviceImage = flag.String("service", "", "`image` with the program of test/e2e/service/cmd as its entry point")

	lossFor = flag.Duration("loss", 2*time.Minute, "how long packets are lost")
	awayFor = flag.Duration("away", time.Minute, "how long the API server is stopped")
	rounds  = flag.Int("rounds", 0, "power-offs of TestPower; 0: none")
	output  = flag.String("o", "../../bin/e2e", "`directory` for what was seen: a file for each fault, and the table")
	docs    = flag.Bool("docs", false, "put the tables into docs/e2e.md")
	keep    = flag.Bool("keep", false, "leave the installation as it is when the suite ends early")

	bystanderFor = flag.Duration("bystander", 0, "how long the bystander of TestServices lives at least; it lives for as long as that lasts")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

// cluster is the one that the tests were given. Without one they are skipped.
func givenCluster(t *testing.T) *world {
	t.Helper()
	if os.Getenv(gate) == "" {
		t.Skipf("no cluster is given: `make e2e` runs this on the lab, or on the cluster of KUBECONFIG (%s is not set)", gate)
	}
	if os.Getenv("KUBECONFIG") == "" {
		t.Fatal("KUBECONFIG must name the cluster to install Rollcall in, and to break")
	}
	w, err := newWorld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(*output, 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

// lasting is a context that outlives the test's own, for mending what it broke.
func lasting(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
}

// pause waits: a fault has to last for some time.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// poll asks again and again, until it is done; what says what is waited for, and
// done may say more in its error.
func poll(ctx context.Context, what string, limit time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		if err == nil {
			err = errors.New("it did not come to pass")
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return fmt.Errorf("waited %s for %s: %w", limit, what, err)
		}
	}
}
