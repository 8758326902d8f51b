package cgroup

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// place is where the cgroups of a pod are, and what is to be read there.
type place struct {
	dirs  []string // below each file's root
	files []wanted
}

// wanted is a file of each cgroup, below a hierarchy's root.
type wanted struct {
	root, name string
	read       func(*Counters, []byte)
}

// The files of both versions. Those of version 1 are in hierarchies of their own,
// which distributions mount under these names, or link to where they are.
var (
	second = []wanted{{".", "cpu.stat", readStat}, {".", "cpu.pressure", readProcessors}, {".", "memory.pressure", readMemory}}
	first  = []wanted{{"cpu", "cpu.stat", readStat}, {"cpuacct", "cpuacct.usage", readUsage}}
)

// Mounted is an error where no cgroups are to be seen below a directory.
func Mounted(fsys fs.FS) error {
	_, err := version(fsys)
	return err
}

// version is which files there are, below which root.
func version(fsys fs.FS) ([]wanted, error) {
	if _, err := fs.Stat(fsys, "cgroup.controllers"); err == nil {
		return second, nil
	}
	if _, err := fs.Stat(fsys, first[0].root); err == nil {
		return first, nil
	}
	return nil, fmt.Errorf("%w: neither cgroup.controllers nor %s is there, so that no cgroups are mounted", ErrNone, first[0].root)
}

// find looks for a pod's cgroup, and in it for those of containers.
func find(fsys fs.FS, uid string, containers []string) (place, error) {
	files, err := version(fsys)
	if err != nil {
		return place{}, err
	}
	if uid == "" {
		return place{}, fmt.Errorf("%w: it has no UID", ErrNone)
	}
	root := files[0].root
	pod, err := podBelow(fsys, root, uid)
	if err != nil {
		return place{}, err
	}
	p := place{files: files, dirs: []string{inside(root, pod)}}
	if len(containers) == 0 {
		return p, nil
	}
	entries, err := fs.ReadDir(fsys, pod)
	if err != nil {
		return place{}, fmt.Errorf("look for the containers of %s: %w", pod, err)
	}
	for _, e := range entries {
		// ID, or cri-containerd-ID.scope, crio-ID.scope, docker-ID.scope.
		if e.IsDir() && slices.ContainsFunc(containers, func(id string) bool { return id != "" && strings.Contains(e.Name(), id) }) {
			p.dirs = append(p.dirs, inside(root, path.Join(pod, e.Name())))
		}
	}
	if len(p.dirs) == 1 {
		return place{}, fmt.Errorf("%w: none of its containers has one in %s", ErrNone, pod)
	}
	return p, nil
}

// inside is a directory seen from another above it.
func inside(root, dir string) string {
	if root == "." {
		return dir
	}
	return strings.TrimPrefix(dir, root+"/")
}

// above is how many directories may lie above the kubelet's own, which its setting
// cgroupRoot makes, and kubelets that run in a container.
const above = 2

// podBelow finds the directory of a pod by the layout of the kubelet, whichever driver
// made it: kubepods/burstable/podUID, or kubepods.slice/kubepods-burstable.slice/
// kubepods-burstable-podUID.slice, with underscores in the UID.
func podBelow(fsys fs.FS, root, uid string) (string, error) {
	plain, slice := "pod"+uid, "pod"+strings.ReplaceAll(uid, "-", "_")+".slice"
	level := []string{root}
	for depth := 0; len(level) > 0; depth++ {
		var next []string
		for _, dir := range level {
			entries, err := fs.ReadDir(fsys, dir)
			if err != nil && dir == root { // another may have been removed meanwhile
				return "", fmt.Errorf("look for the cgroup of pod %s: %w", uid, err)
			}
			for _, e := range entries {
				name := e.Name()
				switch {
				case !e.IsDir():
				case strings.HasSuffix(name, plain) || strings.HasSuffix(name, slice):
					return path.Join(dir, name), nil
				case strings.Contains(name, "kubepods") && !strings.Contains(name, "-pod"),
					name == "burstable", name == "besteffort",
					depth < above && !strings.Contains(dir, "kubepods"):
					next = append(next, path.Join(dir, name))
				}
			}
		}
		level = next
	}
	return "", fmt.Errorf("%w: there is none of pod %s below kubepods", ErrNone, uid)
}
