package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// What the demo needs: measured, with room to spare.
const (
	needFiles  = 8192    // open files: 6000 clients in one process, and some
	needMemory = 2 << 30 // bytes available: kube-apiserver 0.4 GB, the rest 0.6 GB
	needDisk   = 1 << 30 // bytes where temporary files go
)

// preflight names what this machine lacks, each with the remedy.
func preflight() []string {
	if runtime.GOOS != "linux" {
		return []string{"the demo needs Linux (it stops processes, and reads the kernel's word on connections); on " + runtime.GOOS + ", run it in a Linux virtual machine or container"}
	}
	var faults []string
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil && files.Max < needFiles {
		faults = append(faults, fmt.Sprintf("a process may hold %d open files, %d are needed: raise it with `ulimit -Hn %d`, or in /etc/security/limits.conf", files.Max, needFiles, needFiles))
	}
	if available, ok := memoryAvailable(); ok && available < needMemory {
		faults = append(faults, fmt.Sprintf("%d MiB of memory are available, %d MiB are needed: end something else", available>>20, needMemory>>20))
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(os.TempDir(), &disk); err == nil && disk.Bavail*uint64(disk.Bsize) < needDisk {
		faults = append(faults, fmt.Sprintf("%s has %d MiB free, %d MiB are needed: make room, or set TMPDIR to another place", os.TempDir(), disk.Bavail*uint64(disk.Bsize)>>20, needDisk>>20))
	}
	return faults
}

func memoryAvailable() (bytes uint64, ok bool) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if rest, found := strings.CutPrefix(line, "MemAvailable:"); found {
			kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}
