//go:build !linux

// Command bench measures servers on Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: the load generator and the event loops are Linux's")
	os.Exit(1)
}
