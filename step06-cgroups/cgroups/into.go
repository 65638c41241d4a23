//go:build linux

package cgroups

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// Into is the part of a container, or of one more process in it, that is in cg before it does anything else:
//
//	p, err := namespaces.Create(spec, streams, cgroups.Into(cg))
//
// With v2 the kernel makes the process there. With v1, or where it refuses that, the process goes in by its first calls: it
// writes "0", which is whoever writes, to files that were opened before.
func Into(cg Cgroup) namespaces.Part {
	var folder *os.File
	var doors []*os.File
	return namespaces.Part{
		Outside: func() (err error) {
			folder, doors, err = cg.Open()
			return err
		},
		First: func(list *birth.List) error {
			list.BornIn(folder)
			for _, door := range doors {
				list.Add(fmt.Sprintf("write 0 to %q", door.Name()), unix.SYS_WRITE, int(door.Fd()), "0", 1).Enters = true
			}
			return nil
		},
		Done: func() {
			for _, f := range append(doors, folder) {
				f.Close() // of nil it does nothing
			}
		},
	}
}

// TellInto is the part that tells what Into does.
func TellInto(cg Cgroup, tell story.Story) namespaces.Part {
	if tell == nil {
		return namespaces.Part{}
	}
	var writes []string
	return namespaces.Part{
		Outside: func() error {
			folder, doors, err := cg.Open()
			folder.Close()
			for _, door := range doors {
				writes = append(writes, "echo 0 >"+story.Quote(door.Name()))
				door.Close()
			}
			return err
		},
		First: func(*birth.List) error {
			tell.Sh(story.Join, "the child is in its cgroup: 0 is whoever writes", strings.Join(writes, "\n"))
			return nil
		},
	}
}
