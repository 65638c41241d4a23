//go:build linux

package cgroups_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
)

// place has the kernel refuse a birth in the cgroup.
type place struct{ cgroups.Cgroup }

func (p place) Open() (folder *os.File, doors []*os.File, err error) {
	folder, doors, err = p.Cgroup.Open()
	if err == nil && folder != nil {
		folder.Close()
		folder, err = os.Open("/") // no cgroup: EBADF
	}
	return folder, doors, err
}

func TestContainersAreBornInTheirCgroup(t *testing.T) {
	cg := make(t, cgroups.Limits{Pids: 50})
	for name, at := range map[string]cgroups.Cgroup{"as the kernel likes": cg, "where clone3 is refused": place{cg}} {
		t.Run(name, func(t *testing.T) {
			p, err := namespaces.Create(namespaces.Spec(t.TempDir(), "x", []string{"true"}), namespaces.Stdio{}, cgroups.Into(at))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Abort()
			for _, path := range cg.Paths() {
				procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
				if err != nil || strings.TrimSpace(string(procs)) != strconv.Itoa(p.Pid) {
					t.Errorf("%q has the processes %q, %v, want only %d", path, procs, err, p.Pid)
				}
			}
		})
	}
}
