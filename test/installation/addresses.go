package installation

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// block is a part of the loopback network, 127.B.0.0/16, in which every pod and
// node has an address of its own, as in a cluster.
type block struct {
	b          int
	mqtt, http int // ports that are free on all of them
	gossip     int
}

func (b block) server(i int) string { return fmt.Sprintf("127.%d.1.%d", b.b, i+1) }
func (b block) agent(i int) string  { return fmt.Sprintf("127.%d.2.%d", b.b, i+1) }
func (b block) node(i int) string   { return fmt.Sprintf("127.%d.3.%d", b.b, i+1) }
func (b block) controller(i int) string {
	return fmt.Sprintf("127.%d.4.%d", b.b, i+1)
}

// findBlock finds addresses and ports that nothing else uses.
func findBlock(servers, agents, controllers int) (block, error) {
	var last error
	for range 50 {
		b := block{b: 64 + rand.IntN(128), mqtt: 1883, gossip: 7946, http: 8080}
		if last != nil { // the usual ports may be bound on every address
			b.mqtt, b.gossip, b.http = 20000+rand.IntN(3000), 23000+rand.IntN(3000), 26000+rand.IntN(3000)
		}
		if last = b.free(servers, agents, controllers); last == nil {
			return b, nil
		}
	}
	return block{}, fmt.Errorf("no free loopback addresses and ports were found: %w", last)
}

func (b block) free(servers, agents, controllers int) error {
	var addresses []string
	for i := range servers {
		addresses = append(addresses, fmt.Sprintf("%s:%d", b.server(i), b.mqtt), fmt.Sprintf("%s:%d", b.server(i), b.http))
	}
	for i := range agents {
		addresses = append(addresses, fmt.Sprintf("%s:%d", b.agent(i), b.gossip), fmt.Sprintf("%s:%d", b.agent(i), b.http))
	}
	for i := range controllers {
		addresses = append(addresses, fmt.Sprintf("%s:%d", b.controller(i), b.http))
	}
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			return err
		}
		_ = l.Close()
	}
	for i := range agents {
		p, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", b.agent(i), b.gossip))
		if err != nil {
			return err
		}
		_ = p.Close()
	}
	return nil
}
