package controlplane

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below 32768, where Linux's own choices for outgoing
// connections begin by default: a crowd of clients must not take the port of a
// server that is away for a minute.
const firstPort, lastPort = 20000, 32000

// onFreePort calls start with port, or, where that is zero, with free ports
// until one has not been taken by somebody else in between.
func onFreePort(port int, start func(port int) error) error {
	if port != 0 {
		return start(port)
	}
	var err error
	for range 5 {
		if port, err = freePort(); err != nil {
			return err
		}
		if err = start(port); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

func freePort() (int, error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if bindable(port) == nil {
			return port, nil
		}
	}
	return 0, errors.New("no free port on 127.0.0.1 in a hundred tries")
}

func bindable(port int) error {
	listener, err := net.Listen("tcp", address(port))
	if err != nil {
		return err
	}
	return listener.Close()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
