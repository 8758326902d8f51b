package main

import (
	"os"
	"slices"
	"testing"
)

func TestOnlyPagesThatCanBeReadAgainAreGivenBack(t *testing.T) {
	const smaps = `00400000-02200000 r-xp 00000000 fd:01 12 /usr/bin/rollcall
Rss:               20000 kB
Anonymous:             0 kB
02200000-04300000 r--p 01e00000 fd:01 12 /usr/bin/rollcall
Anonymous:             0 kB
04300000-04400000 r--p 03f00000 fd:01 12 /usr/bin/rollcall
Anonymous:             4 kB
04400000-04500000 rw-p 03f00000 fd:01 12 /usr/bin/rollcall
Anonymous:             0 kB
c000000000-c000800000 rw-p 00000000 00:00 0
Anonymous:          8000 kB
7f0000000000-7f0000010000 r-xp 00000000 fd:01 13 /lib/libc.so
Anonymous:             0 kB
7fff00000000-7fff00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	want := []pages{{0x400000, 0x2200000}, {0x2200000, 0x4300000}}
	if got := releasable([]byte(smaps), "/usr/bin/rollcall"); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got := releasable([]byte("nonsense\nAnonymous:\n"), "/usr/bin/rollcall"); len(got) != 0 {
		t.Errorf("of nonsense %x", got)
	}
}

func TestTheProgramOfThisTestGoesOnWithoutItsPages(t *testing.T) {
	if err := release(); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if len(releasable(smaps, program)) == 0 {
		t.Errorf("there are none in\n%s", smaps)
	}
}
