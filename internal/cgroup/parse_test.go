package cgroup

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestFilesOfKernels(t *testing.T) {
	for _, tt := range []struct {
		name string
		read func(*Counters, []byte)
		text string
		want Counters
	}{
		{"cpu.stat of version 2", readStat, "usage_usec 3812\nuser_usec 2000\nsystem_usec 1812\nnr_periods 10\nnr_throttled 9\nthrottled_usec 8820000\n",
			Counters{Used: 3812 * time.Microsecond, Throttled: 8820 * time.Millisecond}},
		{"of a cgroup without a limit", readStat, "usage_usec 3812\nuser_usec 2000\nsystem_usec 1812\n", Counters{Used: 3812 * time.Microsecond}},
		{"of version 1", readStat, "nr_periods 10\nnr_throttled 9\nthrottled_time 8820000000\n", Counters{Throttled: 8820 * time.Millisecond}},
		{"cpuacct.usage", readUsage, "1234567\n", Counters{Used: 1234567}},
		{"cpu.pressure", readProcessors, "some avg10=0.00 avg60=0.00 avg300=0.00 total=99\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=7\n", Counters{Processors: 7 * time.Microsecond}},
		{"cpu.pressure of old kernels", readProcessors, "some avg10=0.00 avg60=0.00 avg300=0.00 total=99\n", Counters{}},
		{"memory.pressure", readMemory, "some total=99\nfull total=8", Counters{Memory: 8 * time.Microsecond}},
		{"nothing", readStat, "", Counters{}},
		{"a number that is none", readStat, "usage_usec -1\nthrottled_usec 1e9\n", Counters{}},
		{"one that is too large", readStat, "throttled_usec 9223372036854775807\nusage_usec 1\n", Counters{Used: time.Microsecond}},
		{"as large as may be", readUsage, "9223372036854775799", Counters{Used: math.MaxInt64 - 8}},
		{"a line that is cut off", readMemory, "full avg10=0.00 tot", Counters{}},
	} {
		var got Counters
		tt.read(&got, []byte(tt.text))
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// Whatever is read: no counter is below zero, and only those of the file are set.
func FuzzFiles(f *testing.F) {
	f.Add("usage_usec 3812\nnr_periods 10\nthrottled_usec 88\n")
	f.Add("nr_periods 10\nthrottled_time 8820000000\n")
	f.Add("123\n")
	f.Add(strings.Repeat("full total=18446744073709551615 ", 3))
	f.Fuzz(func(t *testing.T, text string) {
		for name, read := range map[string]func(*Counters, []byte){"stat": readStat, "usage": readUsage, "processors": readProcessors, "memory": readMemory} {
			var c Counters
			read(&c, []byte(text))
			if c.Used < 0 || c.Throttled < 0 || c.Processors < 0 || c.Memory < 0 {
				t.Errorf("%s: %+v", name, c)
			}
			if name != "memory" && c.Memory != 0 || name != "processors" && c.Processors != 0 || name != "stat" && c.Throttled != 0 {
				t.Errorf("%s sets what is another's: %+v", name, c)
			}
			var again Counters
			read(&again, []byte(text+"\nnonsense"))
			if name == "stat" && again != c {
				t.Errorf("a line more changes %+v to %+v", c, again)
			}
		}
	})
}
