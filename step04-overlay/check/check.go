//go:build linux

// Package check is what this machine can do, found out by trying. Each capability's package has its own checks; they
// serve twice: "gocker doctor" shows them all, and code that failed asks them for the reason.
package check

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// A Result is the answer of one check.
type Result struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Required bool   `json:"required"` // containers cannot run without it
	Found    string `json:"found"`    // what was seen
	Breaks   string `json:"breaks,omitempty"`
	Mend     string `json:"mend,omitempty"`
}

// Good is a check that went well.
func Good(name, found string, args ...any) Result {
	return Result{Name: name, OK: true, Required: true, Found: fmt.Sprintf(found, args...)}
}

// Miss is a check that failed: what was found, what cannot work without, how to mend it.
func Miss(name, found, breaks, mend string) Result {
	return Result{Name: name, Required: true, Found: found, Breaks: breaks, Mend: mend}
}

// Optional marks a check whose miss does not keep containers from running.
func (r Result) Optional() Result {
	r.Required = false
	return r
}

// Explain names the reason of err and its remedy: those of the first required check that failed. Where all went well
// it returns err as it is. The check's remedy goes before one that err has.
func Explain(err error, results []Result) error {
	if reason := Required(results); reason != nil {
		return fmt.Errorf("%[2]w: %[1]w", reason, err)
	}
	return err
}

// Required is the error of the first required check that failed, with its remedy. It is nil where all went well.
func Required(results []Result) error {
	for _, r := range results {
		if !r.OK && r.Required {
			return advice.Add(fmt.Errorf("%s: %s", r.Name, r.Found), "%s", r.Mend)
		}
	}
	return nil
}

// Privilege checks that this process may do what root may: mounting, namespaces, devices. A container's root has
// the user id 0 and often not the capability. See capabilities(7).
func Privilege() Result {
	const name, breaks = "privilege", "mounts, namespaces, layers with files of many owners"
	if uid := os.Geteuid(); uid != 0 {
		return Miss(name, fmt.Sprintf("user %d is not root", uid), breaks, "run it as root: sudo …")
	}
	for _, c := range []struct {
		name string
		bit  uint
	}{{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN}, {"CAP_MKNOD", unix.CAP_MKNOD}, {"CAP_CHOWN", unix.CAP_CHOWN}} {
		if !capable(c.bit) {
			return Miss(name, "root without "+c.name, breaks, "give this container or service more: docker run --privileged, or CapabilityBoundingSet= of its unit")
		}
	}
	return Good(name, "root, with CAP_SYS_ADMIN")
}

func capable(bit uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[bit/32].Effective&(1<<(bit%32)) != 0
}

// Proc looks for the file system by which processes are found, this one and its open files too.
func Proc() Result {
	const name = "proc file system"
	var fs unix.Statfs_t
	if err := unix.Statfs("/proc", &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return Miss(name, "not mounted on /proc", "processes find neither themselves nor others", "mount -t proc proc /proc")
	}
	return Good(name, "mounted on /proc")
}

// Space checks that files can be made in a folder, or in the nearest of its parents that is there.
func Space(name, dir string) Result {
	var fs unix.Statfs_t
	at := dir
	for unix.Statfs(at, &fs) == unix.ENOENT && at != "/" && at != "." {
		at = at[:max(strings.LastIndex(at, "/"), 1)]
	}
	const breaks = "images and containers have no place"
	switch {
	case fs.Flags&unix.ST_RDONLY != 0:
		return Miss(name, dir+" is on a read-only file system", breaks, "choose another folder with --root and --run")
	case fs.Blocks > 0 && fs.Bavail == 0:
		return Miss(name, "no space left at "+dir, breaks, "make room (gocker rmi IMAGE), or choose another folder with --root and --run")
	case fs.Files > 0 && fs.Ffree == 0:
		return Miss(name, "no inodes left at "+dir, breaks, "remove files (gocker rmi IMAGE), or choose another folder with --root and --run")
	}
	return Good(name, "%s has %d MB", dir, int64(fs.Bavail)*fs.Bsize/1e6)
}

// Text reads a small file of the kernel without its newline; "" where it cannot be read.
func Text(file string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
