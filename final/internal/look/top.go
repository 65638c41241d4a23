//go:build linux

package look

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gocker/final/internal/resources"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step05-namespaces/lsns"
	"gocker/step06-cgroups/cgroups"
)

// Top lists the processes of a container. Without options it reads /proc, and shows what ps -ef does; with them the host's ps
// does it. Numbers are the host's. Nothing of the container is executed. The first row has the names of the columns.
func (look Look) Top(name string, options ...string) (rows [][]string, err error) {
	s, err := look.Containers.Running(name)
	if err != nil {
		return nil, err
	}
	cg, err := cgroups.OpenRecorded(look.Containers.Dirs.Container(s.ID))
	if err != nil {
		return nil, err
	}
	pids, err := pidsOf(s.Pid, cg)
	if err != nil {
		return nil, fmt.Errorf("top %s: %w", name, err)
	}
	slices.Sort(pids)
	if len(options) == 0 {
		return readProcesses(pids)
	}
	out, err := ps(pids, options)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	columns := strings.Fields(lines[0])
	pid := slices.Index(columns, "PID")
	if pid < 0 {
		return nil, advice.Add(fmt.Errorf("ps %s: no column PID, so gocker cannot find the container's lines", strings.Join(options, " ")), "add it: -o pid,…")
	}
	rows = append(rows, columns)
	for _, line := range lines[1:] {
		cells := cut(line, len(columns))
		if len(cells) <= pid {
			continue
		}
		if n, err := strconv.Atoi(cells[pid]); err == nil && slices.Contains(pids, n) {
			rows = append(rows, cells)
		}
	}
	return rows, nil
}

// pidsOf are the processes of a container. Where there is no cgroup, those of its pid namespace.
func pidsOf(first int, cg cgroups.Cgroup) (pids []int, err error) {
	if cg != cgroups.Nowhere {
		return resources.Pids(cg)
	}
	own, err := lsns.Inode(first, "pid")
	if host, hostErr := lsns.Inode(os.Getpid(), "pid"); err != nil || hostErr != nil || own == host {
		return nil, errors.Join(err, hostErr, cg.Enable("pids"))
	}
	all, err := dirs.Glob("/proc", "[1-9]*")
	for _, dir := range all {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if ns, err := lsns.Inode(pid, "pid"); err == nil && ns == own { // others' processes cannot be looked into
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// ps runs the host's ps. By itself ps may list only the processes of its own terminal. So gocker names the processes by -q, as
// docker does. If an option forbids -q, it says -e. The ps of busybox knows neither, and lists all.
func ps(pids []int, options []string) (string, error) {
	q := "-q" + strings.ReplaceAll(strings.Trim(fmt.Sprint(pids), "[]"), " ", ",")
	var err error
	for _, which := range [][]string{{q}, {"-e"}, nil} {
		var out []byte
		if out, err = exec.Command("ps", append(slices.Clone(options), which...)...).Output(); err == nil {
			return string(out), nil
		}
	}
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", advice.Add(fmt.Errorf("top with options of ps: %w", err), "install ps (Debian's package procps), or leave the options out")
	case errors.As(err, &exit):
		return "", fmt.Errorf("ps %s: %w: %s", strings.Join(options, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return "", fmt.Errorf("ps: %w", err)
}

// cut parts a line into words, of which the last, at n, is all that is left.
func cut(line string, n int) (words []string) {
	for rest := strings.TrimSpace(line); rest != ""; {
		word, after, _ := strings.Cut(rest, " ")
		if len(words) == n-1 {
			word, after = rest, ""
		}
		words, rest = append(words, word), strings.TrimLeft(after, " ")
	}
	return words
}
