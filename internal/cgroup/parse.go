package cgroup

import (
	"bytes"
	"math"
	"time"
)

// What a kernel has written is read without allocating. What can't be read is left
// out: a counter that is not there does not grow.

// readStat reads cpu.stat of either version: of version 1 it has no time used.
func readStat(c *Counters, b []byte) {
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, newline)
		key, value, ok := bytes.Cut(line, space)
		if !ok {
			continue
		}
		switch string(key) { // which copies nothing
		case "usage_usec":
			set(&c.Used, value, time.Microsecond)
		case "throttled_usec":
			set(&c.Throttled, value, time.Microsecond)
		case "throttled_time":
			set(&c.Throttled, value, time.Nanosecond)
		}
	}
}

// readUsage reads cpuacct.usage of version 1.
func readUsage(c *Counters, b []byte) {
	line, _, _ := bytes.Cut(b, newline)
	set(&c.Used, line, time.Nanosecond)
}

func readProcessors(c *Counters, b []byte) { readPressure(&c.Processors, b) }
func readMemory(c *Counters, b []byte)     { readPressure(&c.Memory, b) }

// readPressure reads the total of the line "full" of a file of pressure, in microseconds.
// Kernels before 5.13 have no such line in cpu.pressure.
func readPressure(d *time.Duration, b []byte) {
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, newline)
		rest, full := bytes.CutPrefix(line, wholly)
		for full && len(rest) > 0 {
			var field []byte
			field, rest, _ = bytes.Cut(rest, space)
			if value, is := bytes.CutPrefix(field, total); is {
				set(d, value, time.Microsecond)
				return
			}
		}
	}
}

var newline, space, wholly, total = []byte("\n"), []byte(" "), []byte("full "), []byte("total=")

// set reads a number of units, if it is one.
func set(d *time.Duration, digits []byte, unit time.Duration) {
	if len(digits) == 0 {
		return
	}
	n, most := time.Duration(0), math.MaxInt64/unit
	for _, c := range digits {
		if c < '0' || c > '9' || n > (most-9)/10 {
			return
		}
		n = 10*n + time.Duration(c-'0')
	}
	*d = n * unit
}
