//go:build !linux

package server

import "net"

func newDatagrams(socket *net.UDPConn, _ int) (datagrams, error) {
	return &single{socket: socket}, nil
}
