package client_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/rollcall-dev/rollcall/client/clienttest"
)

func TestMain(m *testing.M) {
	clienttest.Main()
	goleak.VerifyTestMain(m)
}
