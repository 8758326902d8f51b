package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// envPrefix begins every environment variable that is a setting:
// ROLLCALL_LOG_LEVEL is --log-level.
const envPrefix = "ROLLCALL_"

// applySettings fills flags that the command line leaves out from the
// environment, then from the --config file. What it doesn't know is refused:
// a misspelt setting must not be lost in silence.
func applySettings(flags *pflag.FlagSet, environ []string) error {
	given := map[string]bool{}
	flags.Visit(func(f *pflag.Flag) { given[f.Name] = true })

	set := func(source, name, value string) error {
		f := flags.Lookup(name)
		if f == nil || name == "help" {
			return fmt.Errorf("%s: there is no such setting (see --help for all)", source)
		}
		if given[name] {
			return nil
		}
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		given[name] = true
		return nil
	}

	for _, e := range slices.Sorted(slices.Values(environ)) {
		key, value, _ := strings.Cut(e, "=")
		name, ok := strings.CutPrefix(key, envPrefix)
		if !ok {
			continue
		}
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if err := set("environment variable "+key, name, value); err != nil {
			return err
		}
	}

	path, err := flags.GetString("config")
	if err != nil || path == "" {
		return err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	var file map[string]any
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	names := make([]string, 0, len(file))
	for name := range file {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := set(fmt.Sprintf("--config %s: %s", path, name), name, settingText(file[name])); err != nil {
			return err
		}
	}
	return nil
}

// settingText writes a YAML value as a flag's text; lists are comma separated.
func settingText(v any) string {
	switch v := v.(type) {
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = settingText(e)
		}
		return strings.Join(parts, ",")
	case float64: // every YAML number arrives as one; 100000 must not become 1e+05
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// checks collects the faults of a command's settings, so that a person mends
// them all at once.
type checks struct{ faults []string }

func (c *checks) fail(flag, format string, args ...any) {
	c.faults = append(c.faults, "--"+flag+" "+fmt.Sprintf(format, args...))
}

func (c *checks) needed(flag, value string) {
	if value == "" {
		c.fail(flag, "is needed")
	}
}

// address checks host:port; both are needed, and the port is a number (0 only
// where any free one will do).
func (c *checks) address(flag, value string, zeroPort bool) {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		c.fail(flag, "%q is not an address: write host:port, with brackets around an IPv6 host", value)
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil:
		c.fail(flag, "%q: the port must be a number from 1 to 65535", value)
	case n == 0 && !zeroPort:
		c.fail(flag, "%q: the port must not be 0", value)
	case host == "" && !zeroPort:
		c.fail(flag, "%q: the host is missing", value)
	}
}

func (c *checks) addresses(flag string, values []string) {
	if len(values) == 0 {
		c.fail(flag, "is needed: one or more addresses, host:port, comma separated")
	}
	for _, v := range values {
		c.address(flag, v, false)
	}
}

func (c *checks) err() error {
	if len(c.faults) == 0 {
		return nil
	}
	return errors.New(strings.Join(c.faults, "; "))
}
