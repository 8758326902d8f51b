package main

import (
	"os"
	"runtime"
)

// oneProcessor has Go run on one processor at a time, unless GOMAXPROCS says
// otherwise. What runs on every node wakes up some dozens of times a second, for a
// few microseconds of work. With more processors each time wakes other threads, too,
// which look for work, find none, and go to sleep again.
func oneProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}
