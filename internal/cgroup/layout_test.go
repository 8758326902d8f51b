package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const (
	uid  = "0c3fd2a1-7a3c-4b58-9d3e-6a5f1f6d2b11"
	web  = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	side = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
)

var slice = strings.ReplaceAll(uid, "-", "_")

// layouts are where kubelets and runtimes make the cgroups of pods.
var layouts = []struct {
	name      string
	v1        bool
	pod       string // below the hierarchy
	container string // in the pod's, with %s for its id
}{
	{"systemd and containerd, burstable", false, "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + slice + ".slice", "cri-containerd-%s.scope"},
	{"systemd and CRI-O, guaranteed", false, "kubepods.slice/kubepods-pod" + slice + ".slice", "crio-%s.scope"},
	{"cgroupfs, best effort", false, "kubepods/besteffort/pod" + uid, "%s"},
	{"cgroupfs, guaranteed", false, "kubepods/pod" + uid, "%s"},
	{"a kubelet with a cgroupRoot, by systemd", false, "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + slice + ".slice", "cri-containerd-%s.scope"},
	{"a kubelet in a container", false, "system.slice/node-1.scope/kubepods/burstable/pod" + uid, "%s"},
	{"version 1, systemd and docker", true, "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + slice + ".slice", "docker-%s.scope"},
	{"version 1, cgroupfs with a cgroupRoot", true, "node-1/kubepods/burstable/pod" + uid, "%s"},
}

// node is the cgroups of a node, in files as kernels write them.
type node struct {
	fstest.MapFS
	v1 bool
}

func newNode(v1 bool, pod, container string) node {
	n := node{MapFS: fstest.MapFS{}, v1: v1}
	if v1 {
		n.write("memory/memory.limit_in_bytes", "9223372036854771712\n")
	} else {
		n.write("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n")
	}
	other := strings.NewReplacer(uid, "ffffffff-0000-4000-8000-000000000000", slice, "ffffffff_0000_4000_8000_000000000000")
	for _, dir := range []string{
		"init.scope", "system.slice/containerd.service", "user.slice", other.Replace(pod), pod,
		pod + "/" + fmt.Sprintf(container, web), pod + "/" + fmt.Sprintf(container, side), pod + "/" + fmt.Sprintf(container, "pause"),
	} {
		n.set(dir, Counters{})
	}
	return n
}

func (n node) write(name, text string) {
	n.MapFS[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
}

// overwrite leaves who has the file open with it.
func (n node) overwrite(name, text string) {
	if f := n.MapFS[name]; f != nil {
		f.Data = []byte(text)
		return
	}
	n.write(name, text)
}

// set writes the counters of a cgroup.
func (n node) set(dir string, c Counters) {
	if n.v1 {
		n.overwrite("cpu/"+dir+"/cpu.stat", fmt.Sprintf("nr_periods 812\nnr_throttled 340\nthrottled_time %d\nnr_bursts 0\nburst_time 0\n", c.Throttled.Nanoseconds()))
		n.overwrite("cpuacct/"+dir+"/cpuacct.usage", fmt.Sprintf("%d\n", c.Used.Nanoseconds()))
		return
	}
	n.overwrite(dir+"/cpu.stat", fmt.Sprintf("usage_usec %d\nuser_usec 1\nsystem_usec 2\ncore_sched.force_idle_usec 0\nnr_periods 812\nnr_throttled 340\nthrottled_usec %d\nnr_bursts 0\nburst_usec 0\n",
		c.Used.Microseconds(), c.Throttled.Microseconds()))
	n.overwrite(dir+"/cpu.pressure", pressure(c.Processors))
	n.overwrite(dir+"/memory.pressure", pressure(c.Memory))
}

func pressure(full time.Duration) string {
	return fmt.Sprintf("some avg10=51.18 avg60=40.53 avg300=38.96 total=24370610248\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n", full.Microseconds())
}

// onDisk writes the files into a directory; again and again, they stay the same files.
func (n node) onDisk(t *testing.T, dir string) {
	t.Helper()
	for name, f := range n.MapFS {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// away hides a file system's files whose names end so.
type away struct {
	fs.FS
	suffix string
}

func (a away) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, a.suffix) {
		return nil, fs.ErrNotExist
	}
	return a.FS.Open(name)
}
