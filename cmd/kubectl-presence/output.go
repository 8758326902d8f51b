package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// output is the flag -o.
type output struct{ format string }

func (o *output) flag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "", "json or yaml; empty: for people")
}

func (o *output) check() error {
	if o.format != "" && o.format != "json" && o.format != "yaml" {
		return fmt.Errorf("--output %q is not json or yaml", o.format)
	}
	return nil
}

func (o *output) print(w io.Writer, v any) error {
	if o.format == "yaml" {
		raw, err := yaml.Marshal(v)
		if err != nil {
			return failure{err}
		}
		_, err = w.Write(raw)
		return failed(err)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	return failed(e.Encode(v))
}

func failed(err error) error {
	if err != nil {
		return failure{err}
	}
	return nil
}

// table writes rows as kubectl does, each line after an indent.
func table(w io.Writer, indent string, rows ...[]string) error {
	var b strings.Builder
	t := printers.GetNewTabWriter(&b)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(indent+line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

var failoverHeader = []string{"NAME", "REASON", "TO", "MOVED", "PENDING", "LOST", "STATE", "AGE"}

// failoverRow has the columns of kubectl get failovers; blank until the
// controller has seen it.
func failoverRow(fo *v1alpha1.Failover, now time.Time) []string {
	s := fo.Status
	row := []string{fo.Name, string(fo.Spec.Reason), "", "", "", "", state(fo), age(fo.CreationTimestamp.Time, now)}
	if row[6] != "" {
		for i, n := range []int32{s.Receivers, s.Moved, s.Pending, s.Lost} {
			row[2+i] = strconv.Itoa(int(n))
		}
	}
	return row
}

// age is how long ago something was, as kubectl words it.
func age(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return duration.HumanDuration(max(0, now.Sub(at)))
}

// sentence ends a text with a full stop, if it has no end.
func sentence(s string) string {
	if s == "" || strings.ContainsAny(s[len(s)-1:], ".!?…") {
		return s
	}
	return s + "."
}
