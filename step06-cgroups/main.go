//go:build linux

// Step 6: a process with limits.
//
//	go run ./step06-cgroups [-m 64m] [--cpus 0.5] [--pids-limit 32] [IMAGE [CMD…]]
//	go run ./step06-cgroups --experiment memory|cpu|pids|devices [IMAGE]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
)

func main() {
	lesson.Main("step06-cgroups", run)
}

// An experiment runs a command that wants more than it gets.
type experiment struct {
	controller string
	limits     cgroups.Limits
	command    string
	about      string
	time       time.Duration // how long the command may go on; 0: until it ends
}

var experiments = map[string]experiment{
	"memory": {"memory", cgroups.Limits{Memory: "32m"}, "tail /dev/zero",
		"tail keeps the last line of its input, and /dev/zero is one line without end", 0},
	"cpu": {"cpu", cgroups.Limits{CPUs: "0.25"}, "while :; do :; done",
		"a loop wants a whole processor, for 3 seconds", 3 * time.Second},
	"pids": {"pids", cgroups.Limits{Pids: 16}, "i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done",
		"a loop starts a hundred processes", 0},
	"devices": {"devices", cgroups.Limits{}, "mknod /dev/log c 1 11 && echo made && head -n 1 /dev/log 2>&1",
		"mknod makes a node for the kernel's log, and head wants to read it", 0},
}

func run(ctx context.Context, stdin io.Reader, stdout io.Writer, args []string) error {
	var d dirs.Dirs
	var limits cgroups.Limits
	flags := lesson.Flags(stdout, &d, "step06-cgroups [flags] [IMAGE [CMD…]]",
		"Runs CMD, a shell if there is none, in namespaces of its own and with limits.")
	flags.StringVar(&limits.Memory, "m", "64m", "memory `limit`: bytes, with b, k, m or g; 0: none")
	flags.StringVar(&limits.CPUs, "cpus", "0.5", "`number` of processors; 0: no limit")
	flags.Int64Var(&limits.Pids, "pids-limit", 64, "most processes; -1: no limit")
	name := flags.String("experiment", "", "see a limit at work: `memory|cpu|pids|devices`")
	ref, err := lesson.Parse(flags, args, "setting limits")
	if err != nil {
		return err
	}
	command := lesson.Command(flags)
	e, isExperiment := experiments[*name]
	if isExperiment {
		limits, command, stdin = e.limits, []string{"/bin/sh", "-c", e.command}, nil
	} else if *name != "" {
		return fmt.Errorf("--experiment %q: there are memory, cpu, pids and devices", *name)
	}
	resources, err := limits.Resources()
	if err != nil {
		return err
	}
	cgroups.NoSwap(resources)
	resources.Devices = []specs.LinuxDeviceCgroup{cgroups.DenyDevices}
	if err := cgroups.RemoveDead(d); err != nil {
		return err
	}
	img, err := local.Get(ctx, d, ref, lesson.Say(stdout))
	if err != nil {
		return err
	}
	c := container{d: d, img: img, command: command, resources: resources, experiment: e}
	status, err := c.run(ctx, stdin, stdout)
	if err != nil {
		return err
	}
	if isExperiment {
		status = 0 // it ended as it should
	}
	fmt.Fprintf(stdout, "\nnext: go run ./final run --rm -m 64m %s\n", strings.TrimSuffix(ref.String(), ":latest"))
	if status != 0 {
		return lesson.Exit(status)
	}
	return nil
}

type container struct {
	d          dirs.Dirs
	img        layers.Image
	command    []string
	resources  *specs.LinuxResources
	experiment experiment
}

func (c container) run(ctx context.Context, stdin io.Reader, stdout io.Writer) (status int, err error) {
	f, err := overlay.Create(c.d, c.img, nil)
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, f.Remove()) }()
	fmt.Fprintf(stdout, "1. Making the cgroup of container %s, and writing its limits\n", f.ID)
	cg, err := cgroups.NewFor(f, "gocker-"+f.ID, c.resources, nil)
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, cgroups.Remove(cg, nil)) }()
	controllers := []string{"memory", "cpu", "pids"}
	if c.experiment.controller != "" {
		controllers = []string{c.experiment.controller}
	}
	show(stdout, cg, controllers)

	fmt.Fprintf(stdout, "2. Mounting its root and cloning its process, as the steps before do; the process goes into the cgroup\n")
	if err := f.Mount(); err != nil {
		return -1, err
	}
	spec := namespaces.Spec(f.Mnt(), f.ID, c.command)
	terminal := namespaces.UseTerminal(spec.Process, stdin)
	p, err := namespaces.Create(spec, namespaces.Stdio{Stdin: stdin, Stdout: stdout, Stderr: os.Stderr}, cgroups.Into(cg))
	if err != nil {
		return -1, err
	}
	defer context.AfterFunc(ctx, p.Kill)()
	fmt.Fprintf(stdout, "3. It becomes %s\n", strings.Join(c.command, " "))
	if c.experiment.about != "" {
		fmt.Fprintf(stdout, "   %s\n", c.experiment.about)
	}
	if c.experiment.time > 0 {
		defer time.AfterFunc(c.experiment.time, p.Kill).Stop()
	}
	before, err := cg.Stats() // the setup was not the command's
	if err != nil {
		p.Abort()
		return -1, err
	}
	began := time.Now()
	status, err = p.Run(terminal, stdout, nil)
	if err != nil {
		return -1, err
	}
	took := time.Since(began)
	stats, err := cg.Stats()
	if err != nil {
		return -1, err
	}
	cpu := stats.CPU - before.CPU
	fmt.Fprintf(stdout, "4. It ended with status %d. The kernel counted:\n", status)
	fmt.Fprintf(stdout, "   processes killed because memory was full: %d\n", stats.OOMKills)
	fmt.Fprintf(stdout, "   processor time: %.2fs in %.2fs, a share of %.2f\n", cpu.Seconds(), took.Seconds(), cpu.Seconds()/took.Seconds())
	fmt.Fprintf(stdout, "   forks refused: %d\n", stats.PidsMax)
	show(stdout, cg, controllers)
	return status, nil
}

// show prints what the kernel's files say, below the folder that they are in.
func show(stdout io.Writer, cg cgroups.Cgroup, controllers []string) {
	folder := ""
	for _, controller := range controllers {
		for _, file := range cg.Files(controller) {
			content, err := os.ReadFile(file)
			if err != nil {
				continue // this kernel does not have it
			}
			if dir := filepath.Dir(file); dir != folder {
				folder = dir
				fmt.Fprintf(stdout, "   %s\n", folder)
			}
			fmt.Fprintf(stdout, "      %s: %s\n", filepath.Base(file), strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", ", "))
		}
	}
}
