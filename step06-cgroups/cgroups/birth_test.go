//go:build linux

package cgroups_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/limits"
)

// refused has the kernel refuse a birth in the cgroup.
type refused struct{ cgroups.Cgroup }

func (r refused) Word(v2, v1 string) string {
	if v2 == r.Folders()[0] {
		return "/" // no cgroup: EBADF
	}
	return r.Cgroup.Word(v2, v1)
}

func TestContainersAreBornInTheirCgroup(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	cg := make(t, limits.Limits{Pids: 50})
	for name, at := range map[string]cgroups.Cgroup{"as the kernel likes": cg, "where clone3 is refused": refused{cg}} {
		t.Run(name, func(t *testing.T) {
			spec := namespaces.Spec(t.TempDir(), "x", []string{"true"})
			p, err := namespaces.Create(spec, terminal.New(spec.Process, terminal.Stdio{}), cgroups.Into(at))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Abort()
			for _, path := range cgroups.Paths(cg) {
				procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
				if err != nil || strings.TrimSpace(string(procs)) != strconv.Itoa(p.Pid) {
					t.Errorf("%q has the processes %q, %v, want only %d", path, procs, err, p.Pid)
				}
			}
		})
	}
}
