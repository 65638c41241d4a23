//go:build linux

// Package nscheck looks whether this process can make the namespaces of a container. Step 5 begins with it.
package nscheck

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
)

// Results tells it by making them.
func Results() []check.Result {
	results := []check.Result{check.Privilege()}
	if !results[0].OK {
		return results
	}
	return append(results, check.Proc(), checkNamespaces())
}

// checkNamespaces lets a thread leave the namespaces that the others share, one after the other: see unshare(2).
func checkNamespaces() check.Result {
	const name, breaks = "namespaces", "containers see the host"
	flags := []struct {
		typ   string
		flag  int
		limit string // the file in /proc/sys/user that limits how many there may be: see namespaces(7)
	}{
		{"mnt", unix.CLONE_NEWNS, "max_mnt_namespaces"}, {"pid", unix.CLONE_NEWPID, "max_pid_namespaces"},
		{"uts", unix.CLONE_NEWUTS, "max_uts_namespaces"}, {"ipc", unix.CLONE_NEWIPC, "max_ipc_namespaces"},
		{"net", unix.CLONE_NEWNET, "max_net_namespaces"}, {"cgroup", unix.CLONE_NEWCGROUP, "max_cgroup_namespaces"},
	}
	r := check.Good(name, "mnt, pid, uts, ipc, net, cgroup")
	check.OnThread(func() error {
		for _, ns := range flags {
			err := unix.Unshare(ns.flag)
			if errors.Is(err, unix.ENOSPC) {
				file := "/proc/sys/user/" + ns.limit
				r = check.Miss(name, fmt.Sprintf("no more %s namespaces: %s is %s", ns.typ, file, check.Text(file)), breaks, "echo 10000 > "+file)
				return err
			}
			if err != nil {
				r = check.Miss(name, fmt.Sprintf("%s: %v", ns.typ, err), breaks, "a kernel with CONFIG_NAMESPACES and all below it, and no security module that forbids them")
				return err
			}
		}
		return nil
	})
	return r
}
