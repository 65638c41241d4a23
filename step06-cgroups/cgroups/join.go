//go:build linux

package cgroups

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Joiner puts more processes into the cgroup that Record wrote down in a container's folder.
type Joiner struct {
	v1 []string // folders
	v2 *os.File
}

// NewJoiner reads the record. The caller closes the Joiner.
func NewJoiner(folder string) (*Joiner, error) {
	raw, err := os.ReadFile(filepath.Join(folder, record))
	if err != nil {
		return nil, err
	}
	paths := strings.Split(string(raw), "\n")
	if _, err := os.Stat(filepath.Join(paths[0], "tasks")); err == nil { // v2 has no such file
		return &Joiner{v1: paths}, nil
	}
	dir, err := os.Open(paths[0])
	return &Joiner{v2: dir}, err
}

// Close is for when the process has started.
func (j *Joiner) Close() { j.v2.Close() }

// Place is called on the thread that will start the process: v1 moves single threads, and what a thread starts is
// born where it is. v2 moves only whole programs, but lets one be born elsewhere: CLONE_INTO_CGROUP in clone3(2).
func (j *Joiner) Place(cmd *exec.Cmd) error {
	if j.v2 != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(j.v2.Fd())
	}
	for _, path := range j.v1 {
		if err := write(path, "tasks", unix.Gettid()); err != nil {
			return err
		}
	}
	return nil
}
