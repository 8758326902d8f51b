//go:build !linux

package client

import "time"

// path: no portable way to ask.
func (kernel) path() path { return unknown }

func (kernel) setUserTimeout(time.Duration) {}
