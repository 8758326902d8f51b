package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// releaseAfter is how long after its start a part has done what only a start needs.
const releaseAfter = 10 * time.Second

// releasePages gives back the pages of the program that only its start has touched,
// which are most of the memory that an agent would hold: what it goes on using it
// maps again, from the page cache, as it touches it. It does so once, and may fail.
func releasePages(ctx context.Context, log *slog.Logger) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(releaseAfter):
	}
	if err := release(); err != nil {
		log.Debug("The program's pages were not given back", "error", err)
	}
	return nil
}

func release() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	for _, r := range releasable(smaps, program) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.begin, r.end-r.begin, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}

// pages are a range of addresses.
type pages struct{ begin, end uintptr }

// releasable are the mappings of a program's file which its pages can be read from
// again: those that can't be written, and have no page that was written while they
// could (as those of relocations are).
func releasable(smaps []byte, program string) []pages {
	var all []pages
	var now pages
	ours := false
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		line := lines.Text()
		var begin, end uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &begin, &end); n == 2 {
			fields := strings.Fields(line)
			ours = len(fields) >= 6 && len(fields[1]) == 4 && fields[1][1] == '-' && strings.HasSuffix(line, " "+program)
			now = pages{begin, end}
			continue
		}
		if rest, ok := strings.CutPrefix(line, "Anonymous:"); ok && ours && strings.Fields(rest)[0] == "0" {
			all = append(all, now)
		}
	}
	return all
}
