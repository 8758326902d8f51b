// Command heartbeats draws the plots of docs/heartbeats.md, and renews its table
// of costs. The arrivals come from BenchmarkLeaving of package client.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	docs := flag.String("docs", "docs", "the directory of heartbeats.md")
	flag.Parse()
	if err := run(*docs); err != nil {
		fmt.Fprintln(os.Stderr, "heartbeats:", err)
		os.Exit(1)
	}
}

func run(docs string) error {
	page := filepath.Join(docs, "heartbeats.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	renewed, err := renew(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	assets := filepath.Join(docs, "assets")
	arrivals, err := leaving(assets)
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(page, []byte(renewed), 0o644),
		os.WriteFile(filepath.Join(assets, "heartbeats.svg"), []byte(costs()), 0o644),
	)
	if arrivals != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(assets, "leaving.svg"), []byte(arrivals), 0o644))
	}
	return err
}

const (
	begin = "<!-- table of costs: make docs-heartbeats -->\n"
	end   = "<!-- end of the table of costs -->\n"
)

// renew replaces the table in the page.
func renew(page string) (string, error) {
	before, rest, ok := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", errors.New("the marks of the table are missing")
	}
	return before + begin + table() + end + after, nil
}
