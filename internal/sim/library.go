package sim

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed scenarios/*.txt
var library embed.FS

// Names are those of the library's scenarios.
func Names() []string {
	entries, err := fs.ReadDir(library, "scenarios")
	if err != nil {
		return nil // it is part of the binary
	}
	var l []string
	for _, e := range entries {
		l = append(l, strings.TrimSuffix(e.Name(), ".txt"))
	}
	slices.Sort(l)
	return l
}

// Named is a scenario of the library.
func Named(name string) (*Scenario, error) {
	b, err := library.ReadFile("scenarios/" + name + ".txt")
	if err != nil {
		return nil, fmt.Errorf("the library has no scenario %q: it has %s", name, strings.Join(Names(), ", "))
	}
	sc, err := ParseScenario(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", name, err)
	}
	return sc, nil
}
