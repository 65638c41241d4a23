//go:build linux

package rootless

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gocker/final/internal/enter"
	"gocker/step06-cgroups/trees"
)

// Limits, pause and stats need a cgroup for the container, and with v2 a user makes one only below a cgroup that is the user's. That
// of a login is root's. But the user's own systemd has one, and gives parts of it away: a scope, for processes that run already. So
// gocker has itself put into one, by busctl(1), and a container's cgroup is beside it. See "Delegate=" in systemd.resource-control(5).

// enterScope asks for a scope, if that is what it takes. Without one, containers have no cgroup, and a user who wants limits is told so.
func enterScope(args []string) {
	runtimeDir, mayAsk := enter.Systemd(args)
	if !mayAsk || ownsCgroup() {
		return
	}
	ask := exec.Command("busctl", "--user", "--quiet", "call",
		"org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit",
		"ssa(sv)a(sa(sv))", fmt.Sprintf("gocker-%d-%d.scope", os.Getpid(), time.Now().UnixNano()), "fail",
		"3", "PIDs", "au", "1", fmt.Sprint(os.Getpid()), "Delegate", "b", "true", "CollectMode", "s", "inactive-or-failed",
		"0")
	ask.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtimeDir)
	if ask.Run() != nil {
		return
	}
	for deadline := time.Now().Add(2 * time.Second); !ownsCgroup() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // systemd has a list of what it does
	}
}

// ownsCgroup tells whether this process is in a cgroup of the user's, or of v1, where systemd gives none away.
func ownsCgroup() bool {
	all, err := trees.Find()
	if mode, _ := all.Mode(); err != nil || mode != "v2" {
		return true
	}
	return unix.Access(filepath.Join(all.V2.Own, "cgroup.procs"), unix.W_OK) == nil
}
