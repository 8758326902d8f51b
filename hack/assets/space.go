package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// What building kube-apiserver and kubectl from nothing adds to Go's caches:
// 2.4 GB of compiled packages, 0.6 GB of modules and their archives, measured.
const (
	needCache   = 3 << 30
	needModules = 1 << 30
)

// enoughSpace finds out before a build, and not six minutes into it, that a disk
// is too small.
func enoughSpace(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		return fmt.Errorf("asking go for its caches: %w", err)
	}
	dirs := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, need := range []uint64{needCache, needModules} {
		var fs syscall.Statfs_t
		// A cache that is not there yet is made by go, and says so if it cannot be.
		if i >= len(dirs) || syscall.Statfs(dirs[i], &fs) != nil {
			continue
		}
		if free := fs.Bavail * uint64(fs.Bsize); free < need {
			return fmt.Errorf("%s has %d MiB free, and building kube-apiserver takes %d MiB there: make room, or set %s to another disk",
				dirs[i], free>>20, need>>20, [...]string{"GOCACHE", "GOMODCACHE"}[i])
		}
	}
	return nil
}
