package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	chartReadme = "charts/rollcall/README.md"
	beginValues = "<!-- begin values: written by hack/chart -->\n"
	endValues   = "<!-- end values -->\n"
)

// value is one line of the table.
type value struct{ name, fallback, text string }

// readme writes the table of values between its two marks.
func readme(_ context.Context, t *tree) error {
	source, err := t.read("charts/rollcall/values.yaml")
	if err != nil {
		return err
	}
	values, err := documented(string(source))
	if err != nil {
		return err
	}
	text, err := t.read(chartReadme)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(text, []byte(beginValues))
	_, after, ok2 := bytes.Cut(rest, []byte(endValues))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the values: %q to %q", chartReadme, beginValues, endValues)
	}
	var out bytes.Buffer
	out.Write(before)
	out.WriteString(beginValues + "| value | default | |\n|---|---|---|\n")
	for _, v := range values {
		fmt.Fprintf(&out, "| `%s` | `%s` | %s |\n", v.name, v.fallback, strings.ReplaceAll(v.text, "|", `\|`))
	}
	out.WriteString(endValues)
	out.Write(after)
	t.put(chartReadme, out.Bytes())
	return nil
}

// documented reads the comments that begin with "--", each for the key below it.
// A value without one is an error.
func documented(source string) ([]value, error) {
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(source), &tree); err != nil {
		return nil, err
	}
	var values []value
	var path []string
	text, inside := "", -1 // indent of a documented value: what is below it is its default
	for n, line := range strings.Split(source, "\n") {
		trimmed := strings.TrimSpace(line)
		if comment, ok := strings.CutPrefix(trimmed, "# -- "); ok {
			text = comment
			continue
		}
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		indent := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		if inside >= 0 && indent > inside {
			continue
		}
		inside = -1
		key, inline, ok := strings.Cut(trimmed, ":")
		if !ok || indent > len(path) {
			return nil, fmt.Errorf("values.yaml:%d is not understood: %q", n+1, line)
		}
		path = append(path[:indent], key)
		if text == "" {
			if strings.TrimSpace(inline) != "" {
				return nil, fmt.Errorf("values.yaml:%d: %s has no comment that begins with --", n+1, strings.Join(path, "."))
			}
			continue
		}
		fallback, err := json.Marshal(at(tree, path))
		if err != nil {
			return nil, err
		}
		values = append(values, value{strings.Join(path, "."), string(fallback), text})
		text, inside = "", indent
	}
	return values, nil
}

func at(tree map[string]any, path []string) any {
	var v any = tree
	for _, key := range path {
		v = v.(map[string]any)[key]
	}
	return v
}
