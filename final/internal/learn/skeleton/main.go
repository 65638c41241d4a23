//go:build linux

// P makes containers. You build it in six steps, and each has a file: step1.go is for "P pull", and its TODOs say what is
// missing. The whole of what P is to do stands on the step's page of gocker's docs, under "Build it yourself".
//
//	go build -o P . && gocker learn check 1 ./P
//
// You can begin with any step. This file reads the arguments, and you need not change it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	status, err := do(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "P:", err)
	}
	os.Exit(status)
}

// do does what the arguments ask for, and returns the status that P ends with.
func do(args []string) (status int, err error) {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch {
	case command == "pull" && len(args) == 2:
		err = pull(args[0], args[1])
	case command == "untar" && len(args) == 2:
		err = untar(args[0], args[1])
	case command == "layers" && len(args) == 2:
		err = layers(args[0], args[1])
	case command == "mount" && len(args) == 3:
		err = mount(args[0], args[1], args[2])
	case command == "umount" && len(args) == 1:
		err = umount(args[0])
	case command == "run":
		return runFlags(args)
	default:
		err = errors.New("usage: P pull|untar|layers|mount|umount|run …")
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// limits are what the flags of "P run" say; 0 is no limit.
type limits struct {
	memory int64   // bytes, with swap
	cpus   float64 // processors
	pids   int64   // processes
}

// runFlags is "P run [-m BYTES] [--cpus N] [--pids-limit N] ROOTFS CMD…".
func runFlags(args []string) (status int, err error) {
	var l limits
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.Int64Var(&l.memory, "m", 0, "limit of memory, in `bytes`")
	flags.Float64Var(&l.cpus, "cpus", 0, "limit of processor time, in `processors`")
	flags.Int64Var(&l.pids, "pids-limit", 0, "limit of `processes`")
	if err := flags.Parse(args); err != nil {
		return 125, err
	}
	args = flags.Args()
	switch {
	case len(args) < 2:
		return 125, errors.New("usage: P run [-m BYTES] [--cpus N] [--pids-limit N] ROOTFS CMD…")
	case l == limits{}:
		return run(args[0], args[1:], nil)
	}
	return runLimited(l, args[0], args[1:])
}

// missing is the error of a step that is not built yet.
func missing(step int) error {
	return fmt.Errorf("step %d is not built yet: see the TODOs in step%d.go", step, step)
}
