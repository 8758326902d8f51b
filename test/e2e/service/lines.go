package service

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
)

// lines are the connections of one client. They tell of each that somebody else ends.
type lines struct {
	dialer net.Dialer
	record *record
}

func (l *lines) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := l.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	line := &line{Conn: conn, record: l.record}
	l.record.leads(line)
	return line, nil
}

// uses says on which of them the next question is asked: without it, on that which was made last.
func (l *lines) uses(conn net.Conn) {
	if line, ok := conn.(*line); ok {
		l.record.leads(line)
	}
}

// line is one connection.
type line struct {
	net.Conn
	record *record
	// pod at the other end; the record's, empty until it answers.
	pod string
	// over: it has been ended, by whomever.
	over atomic.Bool
}

func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.heed(err)
	return n, err
}

func (l *line) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	l.heed(err)
	return n, err
}

func (l *line) heed(err error) {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && l.over.CompareAndSwap(false, true) {
		l.record.broke(l)
	}
}

// Close is the client's own wish, and is not told.
func (l *line) Close() error {
	l.over.Store(true)
	return l.Conn.Close()
}
