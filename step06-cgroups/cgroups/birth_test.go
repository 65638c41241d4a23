//go:build linux

package cgroups_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
)

// place counts the processes that had to be moved, and has the kernel refuse a birth where it is told to.
type place struct {
	cgroups.Cgroup
	refuse bool
	moved  int
}

func (p *place) Open() (*os.File, error) {
	if p.refuse {
		return os.Open("/") // no cgroup: EBADF
	}
	return p.Cgroup.Open()
}

func (p *place) Add(pid int) error {
	p.moved++
	return p.Cgroup.Add(pid)
}

func TestContainersAreBornInTheirCgroup(t *testing.T) {
	for name, refuse := range map[string]bool{"as the kernel likes": false, "where clone3 is refused": true} {
		t.Run(name, func(t *testing.T) {
			cg := make(t, cgroups.Limits{Pids: 50})
			at := &place{Cgroup: cg, refuse: refuse}
			p, err := namespaces.Create(namespaces.Spec(t.TempDir(), "x", []string{"true"}), namespaces.Stdio{}, at)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Abort()
			want := 1
			if cg.Version() == "v2" && !refuse {
				want = 0
			}
			if at.moved != want {
				t.Errorf("%d processes were moved into the cgroup, want %d", at.moved, want)
			}
			for _, path := range cg.Paths() {
				procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
				if err != nil || !slices.Contains(strings.Fields(string(procs)), strconv.Itoa(p.Pid)) {
					t.Errorf("process %d is not in %q: %q, %v", p.Pid, path, procs, err)
				}
			}
		})
	}
}
