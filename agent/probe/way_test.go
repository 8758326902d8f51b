package probe

import (
	"strings"
	"testing"
)

func TestUnescape(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{`PING\r\n`, "PING\r\n", ""},
		{`\x00\xffa\t\\`, "\x00\xffa\t\\", ""},
		{`plain`, "plain", ""},
		{`a\`, "", "ends with a backslash"},
		{`\q`, "", `\q is not known`},
		{`\x1`, "", "two hexadecimal digits"},
		{`\xzz`, "", "two hexadecimal digits"},
	} {
		got, err := Unescape(tt.in)
		if tt.err == "" && (err != nil || string(got) != tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %q, %v; want an error with %q", tt.in, got, err, tt.err)
		}
	}
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{`PING\r\n`, `\x00`, `\`, `\x`, `\\\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if b, err := Unescape(s); err == nil && len(b) > len(s) {
			t.Errorf("%q became longer: %q", s, b)
		}
	})
}

func TestParseCodes(t *testing.T) {
	codes, err := ParseCodes([]string{"200-399", "418"})
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]bool{199: false, 200: true, 399: true, 400: false, 418: true} {
		if codes.hold(code) != want {
			t.Errorf("%d is among %v: %v", code, codes, !want)
		}
	}
	if got := codes.String(); got != "200 to 399, 418" {
		t.Errorf("they read %q", got)
	}
	for _, bad := range []string{"", "abc", "300-200"} {
		if _, err := ParseCodes([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
