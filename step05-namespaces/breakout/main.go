//go:build linux

// Command breakout tries to leave its root folder by a second chroot, as any root process can.
//
//	breakout chroot FOLDER   calls chroot(FOLDER), then tries to get out
//	breakout here            tries to get out of the root that it was started in
//
// It needs nothing but the kernel, so it runs in any folder: build it with CGO_ENABLED=0.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "breakout:", err)
		os.Exit(1)
	}
}

func run(stdout io.Writer, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "chroot":
		tell(stdout, "before any chroot")
		if err := enter(args[1]); err != nil {
			return err
		}
	case len(args) == 1 && args[0] == "here":
	default:
		return fmt.Errorf("usage: breakout chroot FOLDER | breakout here")
	}
	tell(stdout, "in the root folder")
	if err := leave(); err != nil {
		return err
	}
	tell(stdout, "after the second chroot")
	return nil
}

// enter makes folder the root of this process, the right way round: a chroot without a chdir would leave the working
// folder outside.
func enter(folder string) error {
	if err := unix.Chroot(folder); err != nil {
		return fmt.Errorf("chroot %q: %w", folder, err)
	}
	return unix.Chdir("/")
}

// leave climbs out of a chroot. The kernel stops ".." only at the root folder of the process. Moving that root into a
// folder below leaves the working folder above it, where no ".." ever meets it. See chroot(2).
func leave() error {
	const below = "/breakout-was-here"
	if err := unix.Mkdir(below, 0o755); err != nil {
		return fmt.Errorf("mkdir %q: %w", below, err)
	}
	if err := unix.Chroot(below); err != nil {
		return fmt.Errorf("chroot %q: %w", below, err)
	}
	if err := unix.Rmdir("breakout-was-here"); err != nil { // relative to the working folder: the root may be removed
		return fmt.Errorf("rmdir: %w", err)
	}
	for range 64 { // deeper than any folder is; at the real top, ".." stays where it is
		if err := unix.Chdir(".."); err != nil {
			return fmt.Errorf("chdir: %w", err)
		}
	}
	return unix.Chroot(".")
}

// tell says what "/" is now: its number, and which system's files are in it.
func tell(stdout io.Writer, when string) {
	system := "no /etc/os-release"
	if raw, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				system = strings.Trim(strings.TrimSpace(name), `"`)
			}
		}
	}
	var root unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		system = err.Error()
	}
	fmt.Fprintf(stdout, "%-24s / is inode %d of device %d:%d, %s\n", when+":", root.Ino, unix.Major(root.Dev), unix.Minor(root.Dev), system)
}
