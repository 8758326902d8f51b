package server_test

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// spawn runs one of Mosquitto's clients, until the test ends or it does.
func spawn(t *testing.T, addr, program string, args ...string) (lines <-chan string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed: apt-get install mosquitto-clients", program)
	}
	host, port, _ := strings.Cut(addr, ":")
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-h", host, "-p", port}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := make(chan string, 1024)
	go func() {
		defer close(c)
		for s := bufio.NewScanner(out); s.Scan(); {
			c <- s.Text()
		}
		_ = cmd.Wait()
	}()
	return c
}

// Mosquitto's own clients watch, in both versions, with both qualities.
func TestMosquittoSubSubscribes(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", watched)
	for _, version := range []string{"311", "5"} {
		for _, qos := range []string{"0", "1", "2"} {
			t.Run(version+" with QoS "+qos, func(t *testing.T) {
				lines := spawn(t, a.addr(), "mosquitto_sub", "-V", version, "-q", qos, "-i", "sub", "-u", "im/phone", "-P", "eve",
					"-t", wire.PresenceTopic("im", "phone", "+"), "-F", "%r %t %p")
				heard := func(what string, of func(retained, client string, s wire.PresenceState) bool) {
					t.Helper()
					var all []string
					for line := range lines {
						all = append(all, line)
						var s wire.PresenceState
						parts := strings.SplitN(line, " ", 3)
						if len(parts) == 3 && json.Unmarshal([]byte(parts[2]), &s) == nil {
							_, _, client, _ := wire.ParsePresenceTopic(parts[1])
							if of(parts[0], client, s) {
								return
							}
						}
					}
					t.Fatalf("mosquitto_sub was not told %s, but %q", what, all)
				}
				heard("that this is all", func(retained, client string, _ wire.PresenceState) bool {
					return retained == "1" && client == wire.EveryClient
				})
				name := "c" + version + qos
				c := must(t, a.addr(), id(name))
				heard("of a client", func(retained, client string, s wire.PresenceState) bool {
					return retained == "0" && client == name && s.State == wire.StateOnline
				})
				_ = c.Disconnect(&paho.Disconnect{})
				heard("that it left", func(retained, client string, s wire.PresenceState) bool {
					return retained == "0" && client == name && s.State == wire.StateOffline
				})
			})
		}
	}
}
