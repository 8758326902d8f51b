// Command bench-adaptive runs the strategies of client/adaptive on the same
// simulated networks, prints how they compare, and writes that as Markdown and
// as a plot. Seeds are fixed: a second run writes the same files.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("o", "docs/assets", "directory to write adaptive.md and adaptive.svg to")
	flag.Parse()
	if err := run(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench-adaptive:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	var results []result
	for _, g := range groups() {
		fmt.Fprintln(os.Stderr, "Simulating", g.name)
		r, err := g.run()
		if err != nil {
			return fmt.Errorf("simulating %s: %w", g.name, err)
		}
		results = append(results, r)
	}
	fmt.Print(text(results))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making a place for the results: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "adaptive.md"), []byte(markdown(results)), 0o644),
		os.WriteFile(filepath.Join(dir, "adaptive.svg"), []byte(plot(results)), 0o644),
	)
}
