// Package cgroup tells from a pod's cgroups what its processes wait for beside their
// work: a processor that its CPU limit withholds, a processor that others have, or
// memory. It reads the files of both versions, and decides nothing: who is throttled
// may be well, as a batch is, or a server that uses what it may.
//
// What is taken is how long the pod was kept from running, never how busy it is:
//
//   - Its CPU limit (cpu.stat): what it was throttled for, as a share of the time that
//     has passed, and of what it asked for. The kernel adds the former up over
//     processors, so that the less of both is meant.
//   - Processors (cpu.pressure of version 2, its line "full"): time in which some of
//     its processes could run, and none did.
//   - Memory (memory.pressure, likewise): time in which all that were not idle waited
//     for memory.
//
// How often a limit of memory was hit (memory.events; memory.failcnt of version 1) is
// not taken: it counts for every pod that reads more files than it has memory. So of
// memory nothing is known with version 1, which has no pressure.
package cgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

// ErrNone: there is no such cgroup.
var ErrNone = errors.New("no cgroup of the pod is found")

// fileSize is how much of a file is read, in bytes: several times what there is.
const fileSize = 4096

// Pod is the open files of one pod's cgroups. It is not safe for concurrent use.
type Pod struct {
	groups []*group
	said   Kind
	// What one reading needs; here, so that it allocates nothing.
	buffer   [fileSize]byte
	counters Counters
}

// group is one cgroup.
type group struct {
	dir   string
	files []file
	meter Meter
}

// file is one that is open, and what is read of it.
type file struct {
	fs.File
	at   io.ReaderAt // the same
	read func(*Counters, []byte)
}

// Open finds the cgroups of a pod, by its UID, below the directory where the node has
// its cgroups (/sys/fs/cgroup): the pod's own, and those of the containers, whose ids it
// is given; none: the pod's own alone.
func Open(fsys fs.FS, uid string, containers []string) (*Pod, error) {
	where, err := find(fsys, uid, containers)
	if err != nil {
		return nil, err
	}
	p := &Pod{}
	for _, dir := range where.dirs {
		g := &group{dir: dir}
		for _, f := range where.files {
			name := path.Join(f.root, dir, f.name)
			if opened, err := open(fsys, name, f.read); err == nil {
				g.files = append(g.files, opened)
			}
		}
		if len(g.files) > 0 {
			p.groups = append(p.groups, g)
		}
	}
	if len(p.groups) == 0 {
		return nil, fmt.Errorf("%w: nothing can be read in %s", ErrNone, where.dirs[0])
	}
	return p, nil
}

// open opens a file that can be read again and again. The kernel shows some that it
// can't read: those of pressure, where that is switched off.
func open(fsys fs.FS, name string, read func(*Counters, []byte)) (file, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return file{}, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		_ = f.Close() // it was only read
		return file{}, fmt.Errorf("%s can't be read again", name)
	}
	var some [1]byte
	if _, err := at.ReadAt(some[:], 0); err != nil {
		_ = f.Close() // it was only read
		return file{}, fmt.Errorf("read %s: %w", name, err)
	}
	return file{File: f, at: at, read: read}, nil
}

// Look reads what the cgroups say now, and returns what the pod waits for, judged over
// a time. An error means that they are gone: a Pod is opened anew then.
func (p *Pod) Look(now time.Time, over time.Duration) (Strain, error) {
	var worst Strain
	rising := false
	for _, g := range p.groups {
		c, err := p.read(g)
		if err != nil {
			return Strain{}, err
		}
		s := g.meter.See(now, c, over, p.said)
		rising = rising || s.Rising
		if s.Kind != "" && (worst.Kind == "" || s.Share > worst.Share) {
			worst = s
		}
	}
	worst.Rising = rising
	p.said = worst.Kind
	return worst, nil
}

func (p *Pod) read(g *group) (Counters, error) {
	p.counters = Counters{}
	for i := range g.files {
		f := &g.files[i]
		// The kernel gives all of such a file, as it is now, in one read of its beginning.
		n, err := f.at.ReadAt(p.buffer[:], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return Counters{}, fmt.Errorf("read the cgroup %s: %w", g.dir, err)
		}
		f.read(&p.counters, p.buffer[:n])
	}
	return p.counters, nil
}

// Close closes the files.
func (p *Pod) Close() {
	for _, g := range p.groups {
		for _, f := range g.files {
			_ = f.Close() // it was only read
		}
	}
	p.groups = nil
}
