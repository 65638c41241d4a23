//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// Into is the part of a container, or of one more process in it, that is in cg before it does anything else:
//
//	p, err := namespaces.Create(spec, streams, cgroups.Into(cg))
//
// With v2 the kernel makes the process there: CLONE_INTO_CGROUP. v1 has no such thing. There, and where the kernel refuses
// that, the process goes in by its first calls: it writes "0", which means itself, to files that were opened before.
func Into(cg Cgroup) namespaces.Part {
	var folder *os.File
	var doors []*os.File
	return namespaces.Part{
		Outside: func() (err error) {
			for _, path := range cg.Folders()[:min(1, len(cg.Folders()))] {
				folder, _ = os.Open(cg.Word(path, "")) // without it there are the doors
			}
			for _, path := range Doors(cg) {
				door, openErr := os.OpenFile(path, os.O_WRONLY, 0)
				doors, err = append(doors, door), errors.Join(err, openErr)
			}
			return err
		},
		First: func(list *birth.List) error {
			list.BornIn(folder)
			for _, door := range doors {
				list.Add(fmt.Sprintf("write 0 to %q", door.Name()), unix.SYS_WRITE, int(door.Fd()), "0", 1).Enters = true
			}
			return nil
		},
		Done: func(error) {
			for _, f := range append(doors, folder) {
				f.Close() // of nil it does nothing
			}
		},
	}
}

// Doors are the files by which a process goes in. With v1 it is "tasks": this takes one thread, and a process that was just
// born has only one. A number in cgroup.procs may mean any process: so the kernel stops all forks and exits of
// the machine for it, which takes milliseconds.
func Doors(cg Cgroup) (doors []string) {
	for _, folder := range Paths(cg) {
		doors = append(doors, filepath.Join(folder, cg.Word("cgroup.procs", "tasks")))
	}
	return doors
}
