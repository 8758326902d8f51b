// Package scenario runs the scenario files of the packages that decide: lines
// of evidence with their times go in, and the lines that follow say what must
// come out. It is for tests only, and knows nothing of what is decided.
//
//	# A comment.
//	0s    server a observers=n1/zone-1,n2/zone-2
//	1.5s  sees a n1=hung
//	> 1.5s a Suspect …
//
// Lines of one time are one step (an empty line or a comment ends it too): all
// are applied, then there is one judgement.
// Between steps the clock stops at every moment at which the judge asked to
// look again, and nowhere else. After the last step it goes on so until the judge
// asks for nothing more. `go test -rewrite` renews the lines that begin with ">".
package scenario

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "renew the expected part of scenario files")

// Line is one line of evidence.
type Line struct {
	At            time.Duration
	Verb, Subject string
	Args          []Arg
}

// Arg is "key=value", or "key" with the value "true".
type Arg struct{ Key, Value string }

// Judge is what a scenario drives. Each file gets a new one.
type Judge interface {
	// Apply takes one line of evidence.
	Apply(Line) error
	// Judge returns what is new at a moment, a line each, and when to look again; 0: never.
	Judge(at time.Duration) (news []string, next time.Duration)
}

// RunAll runs every file that matches the pattern, each with a fresh judge.
func RunAll(t *testing.T, pattern string, fresh func() Judge) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenario matches %s: %v", pattern, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { run(t, f, fresh()) })
	}
}

func run(t *testing.T, file string, j Judge) {
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := replay(have, j)
	if err != nil {
		t.Fatalf("%s:%v", file, err)
	}
	if bytes.Equal(have, got) {
		return
	}
	if *rewrite {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	h, g := strings.Split(string(have), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(h), len(g)) {
		var want, is string
		if i < len(h) {
			want = h[i]
		}
		if i < len(g) {
			is = g[i]
		}
		if want != is {
			t.Fatalf("%s:%d\n want %s\n  got %s\n(go test -rewrite accepts what is)", file, i+1, want, is)
		}
	}
}

// replay returns the file with what the judge says in place of what is expected.
func replay(file []byte, j Judge) ([]byte, error) {
	var out bytes.Buffer
	var at, next time.Duration
	open := false // a step has lines that are not judged yet
	look := func(now time.Duration) {
		var news []string
		news, next = j.Judge(now)
		for _, n := range news {
			fmt.Fprintf(&out, "> %v %s\n", now, n)
		}
		open = false
	}
	until := func(end time.Duration) error {
		for n := 0; next > 0 && next < end; n++ {
			if n > 1000 {
				return fmt.Errorf("the judge never comes to rest (at %v)", next)
			}
			look(next)
		}
		return nil
	}

	lines := bufio.NewScanner(bytes.NewReader(file))
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		switch {
		case strings.HasPrefix(text, ">"):
			continue
		case text == "" || strings.HasPrefix(text, "#"):
			if open {
				look(at)
			}
			out.WriteString(text + "\n")
			continue
		}
		l, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		if l.At < at {
			return nil, fmt.Errorf("%d: time goes back", n)
		}
		if l.At > at {
			if open {
				look(at)
			}
			if err := until(l.At); err != nil {
				return nil, fmt.Errorf("%d: %w", n, err)
			}
		}
		at, open = l.At, true
		if err := j.Apply(l); err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		out.WriteString(text + "\n")
	}
	if open {
		look(at)
	}
	err := until(1 << 62)
	return out.Bytes(), err
}

func parse(text string) (Line, error) {
	f := strings.Fields(text)
	if len(f) < 2 {
		return Line{}, fmt.Errorf("%q is not TIME VERB [SUBJECT [KEY=VALUE…]]", text)
	}
	at, err := time.ParseDuration(f[0])
	if err != nil {
		return Line{}, err
	}
	l := Line{At: at, Verb: f[1]}
	for i, a := range f[2:] {
		key, value, ok := strings.Cut(a, "=")
		switch {
		case ok:
			l.Args = append(l.Args, Arg{key, value})
		case i == 0:
			l.Subject = a
		default:
			l.Args = append(l.Args, Arg{key, "true"})
		}
	}
	return l, nil
}
