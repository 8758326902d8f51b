package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestCgroupsOfPodsAreFound(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			n := newNode(l.v1, l.pod, l.container)
			mine := fmt.Sprintf(l.container, web)
			for _, tt := range []struct {
				what       string
				containers []string
				want       []string
			}{
				{"with a container", []string{web}, []string{l.pod, l.pod + "/" + mine}},
				{"with one that is not there any more", []string{web, "gone"}, []string{l.pod, l.pod + "/" + mine}},
				{"alone", nil, []string{l.pod}},
			} {
				got, err := find(n, uid, tt.containers)
				if err != nil || strings.Join(got.dirs, " ") != strings.Join(tt.want, " ") {
					t.Errorf("%s it is found in %q: %v, want %q", tt.what, got.dirs, err, tt.want)
				}
			}
			p, err := Open(n, uid, []string{web})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			files := 0
			for _, g := range p.groups {
				files += len(g.files)
			}
			if want := map[bool]int{false: 6, true: 4}[l.v1]; files != want {
				t.Errorf("%d files are open, want %d", files, want)
			}
		})
	}
}

func TestWhatIsNotFoundIsSaid(t *testing.T) {
	n := newNode(false, layouts[0].pod, layouts[0].container)
	for _, tt := range []struct {
		name       string
		in         fstest.MapFS
		uid        string
		containers []string
		want       string
	}{
		{"nothing is mounted", fstest.MapFS{}, uid, nil, "no cgroups are mounted"},
		{"another pod", n.MapFS, "11111111-7a3c-4b58-9d3e-6a5f1f6d2b11", nil, "none of pod 11111111-"},
		{"no pod", n.MapFS, "", nil, "no UID"},
		{"none of its containers", n.MapFS, uid, []string{"gone"}, "none of its containers has one in " + layouts[0].pod},
		{"a container without an id", n.MapFS, uid, []string{""}, "none of its containers"},
	} {
		_, err := Open(tt.in, tt.uid, tt.containers)
		if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: it says %v", tt.name, err)
		}
	}
	if _, err := Open(away{n, ".pressure"}, uid, []string{web}); err != nil {
		t.Errorf("where pressure is switched off: %v", err)
	}
	if _, err := Open(away{away{n, ".pressure"}, ".stat"}, uid, nil); !errors.Is(err, ErrNone) {
		t.Errorf("where nothing is there: %v", err)
	}
	if err := Mounted(fstest.MapFS{}); !errors.Is(err, ErrNone) {
		t.Errorf("what is mounted: %v", err)
	}
	if err := Mounted(n); err != nil {
		t.Error(err)
	}
}

// With files of a real file system, which are read again and again.
func TestAPodIsRead(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			n, dir := newNode(l.v1, l.pod, l.container), t.TempDir()
			n.onDisk(t, dir)
			p, err := Open(os.DirFS(dir), uid, []string{web})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			now, c := time.Unix(1, 0), Counters{}
			var s Strain
			for look := range 5 {
				if s, err = p.Look(now, 2*time.Second); err != nil {
					t.Fatal(err)
				}
				now = now.Add(time.Second)
				c.Used, c.Throttled = c.Used+20*time.Millisecond, c.Throttled+980*time.Millisecond
				n.set(l.pod+"/"+fmt.Sprintf(l.container, web), c)
				n.set(l.pod+"/"+fmt.Sprintf(l.container, side), Counters{Throttled: time.Duration(look) * time.Hour}) // it serves nobody
				n.onDisk(t, dir)
			}
			if got := s.String(); got != "throttled 98 % of the last 2s, by its CPU limit" || s.Kind != Throttled {
				t.Errorf("it is %q (%+v)", got, s)
			}
		})
	}
}

func TestNothingIsAllocatedWhereCgroupsArePolled(t *testing.T) {
	dir := t.TempDir()
	newNode(false, "kubepods/pod"+uid, "%s").onDisk(t, dir)
	p, err := Open(os.DirFS(dir), uid, []string{web})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	now := time.Unix(1, 0)
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(time.Second)
		if _, err := p.Look(now, 2*time.Second); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a look allocates %v times", n)
	}
}

// On this machine, whatever its version: the files are those of a real kernel, if it lets us see them.
func TestTheKernelsOwnFilesAreRead(t *testing.T) {
	read := 0
	for name, into := range map[string]func(*Counters, []byte){
		"/sys/fs/cgroup/cpu.stat": readStat, "/sys/fs/cgroup/cpuacct/cpuacct.usage": readUsage, "/sys/fs/cgroup/unified/cpu.stat": readStat,
	} {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var c Counters
		into(&c, b)
		read++
		if c.Used <= 0 {
			t.Errorf("%s says that nothing was Used:\n%s", name, b)
		}
	}
	if read == 0 {
		t.Skip("no cgroups are mounted where they are looked for")
	}
}

func TestAPodThatIsGoneSaysSo(t *testing.T) {
	dir := t.TempDir()
	newNode(true, "kubepods/pod"+uid, "%s").onDisk(t, dir)
	p, err := Open(os.DirFS(dir), uid, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if s, err := p.Look(time.Unix(1, 0), time.Second); err != nil || s != (Strain{}) {
		t.Errorf("one that is closed says %+v, %v", s, err)
	}
	p, err = Open(os.DirFS(dir), uid, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.groups[0].files {
		_ = f.Close()
	}
	if _, err := p.Look(time.Unix(1, 0), time.Second); err == nil {
		t.Error("of files that are gone something is read")
	}
}

func BenchmarkLook(b *testing.B) {
	p := &Pod{}
	for _, f := range []struct {
		name string
		read func(*Counters, []byte)
	}{{"cpu/cpu.stat", readStat}, {"cpuacct/cpuacct.usage", readUsage}, {"unified/cpu.stat", readStat}, {"unified/cpu.pressure", readProcessors}, {"unified/memory.pressure", readMemory}} {
		if opened, err := open(os.DirFS("/sys/fs/cgroup"), f.name, f.read); err == nil {
			p.groups = append(p.groups, &group{dir: f.name, files: []file{opened}})
		}
	}
	defer p.Close()
	now := time.Unix(1, 0)
	for b.Loop() {
		now = now.Add(time.Second)
		if _, err := p.Look(now, 2*time.Second); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(p.groups)), "files")
}
