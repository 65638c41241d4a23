//go:build linux

package lsns

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
)

// A Namespace is one line of lsns(8). A namespace has no name: it is known by the inode number of the files
// /proc/{pid}/ns/{type} of the processes in it.
type Namespace struct {
	NS      uint64 // inode number
	Type    string // mnt, pid, uts, ipc, net, cgroup, user, time
	NProcs  int    // how many processes are in it
	PID     int    // the lowest of them
	User    string // the user of that process
	Command string // its command line
}

// nsTypes are the files of /proc/{pid}/ns that say what a process is in. There are two more, pid_for_children and
// time_for_children: those are for processes that are not born yet.
var nsTypes = []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}

// List reads the namespaces of all processes from /proc, sorted by inode number. A process that may not be looked at,
// or ends meanwhile, is left out.
func List() ([]Namespace, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	found := map[uint64]*Namespace{}
	for _, pid := range pids {
		for _, typ := range nsTypes {
			inode, err := Inode(pid, typ)
			if err != nil {
				continue
			}
			if found[inode] == nil {
				found[inode] = &Namespace{NS: inode, Type: typ, PID: pid}
			}
			found[inode].NProcs++
		}
	}
	var list []Namespace
	for _, ns := range found {
		if ns.User, ns.Command, err = Describe(ns.PID); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		} else if err != nil {
			return nil, err
		}
		list = append(list, *ns)
	}
	slices.SortFunc(list, func(a, b Namespace) int { return cmp.Compare(a.NS, b.NS) })
	return list, nil
}

// Of returns the namespaces that one process is in, by type.
func Of(list []Namespace, pid int) map[string]Namespace {
	of := map[string]Namespace{}
	for _, typ := range nsTypes {
		inode, err := Inode(pid, typ)
		if err != nil {
			continue
		}
		if i := slices.IndexFunc(list, func(ns Namespace) bool { return ns.NS == inode }); i >= 0 {
			of[typ] = list[i]
		}
	}
	return of
}

// Inode is the number in the link that readlink(1) shows as "pid:[4026531836]".
func Inode(pid int, typ string) (uint64, error) {
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "ns", typ))
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// Shared tells whether a process and this one are in one namespace of a kind.
func Shared(pid int, typ string) bool {
	theirs, err := Inode(pid, typ)
	ours, ourErr := Inode(os.Getpid(), typ)
	return err == nil && ourErr == nil && theirs == ours
}

// Describe tells the user and the command line of a process. A kernel thread has no command line: its name stands for it.
func Describe(pid int) (owner, command string, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	info, err := os.Stat(dir)
	if err != nil {
		return "", "", err
	}
	owner = strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid))
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err == nil && len(raw) == 0 {
		raw, err = os.ReadFile(filepath.Join(dir, "comm"))
	}
	command = string(bytes.ReplaceAll(bytes.TrimRight(raw, "\x00\n"), []byte{0}, []byte{' '}))
	// A command line is a process's own words: what could move the cursor is not shown as it is.
	quoted := strconv.Quote(command)
	return owner, strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`), err
}

// Compare prints, for each type, the namespace of the host's process and that of the container's, as lsns does.
func Compare(w io.Writer, host, container int) error {
	list, err := List()
	if err != nil {
		return err
	}
	ours, theirs := Of(list, host), Of(list, container)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tNS\tTYPE\tNPROCS\tPID\tUSER\tCOMMAND")
	for _, typ := range nsTypes {
		ours, theirs := ours[typ], theirs[typ]
		if ours.NS == theirs.NS {
			row(t, "both", ours)
			continue
		}
		row(t, "host", ours)
		row(t, "container", theirs)
	}
	return t.Flush()
}

func row(w io.Writer, who string, ns Namespace) {
	program, args, _ := strings.Cut(ns.Command, " ")
	command := strings.TrimSpace(filepath.Base(program) + " " + args) // go run has its programs in long folders
	fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%s\t%.40s\n", who, ns.NS, ns.Type, ns.NProcs, ns.PID, ns.User, command)
}
