//go:build linux

// Step 6: a process with limits.
//
//	go run ./step06-cgroups [-m 64m] [--cpus 0.5] [--pids-limit 32] [--explain] [IMAGE [CMD…]]
//	go run ./step06-cgroups --experiment memory|cpu|pids|devices [IMAGE]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/road"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/byhand"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/nscheck"
	"gocker/step05-namespaces/terminal"
	"gocker/step06-cgroups/cgroupbyhand"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/counters"
	"gocker/step06-cgroups/devices"
	"gocker/step06-cgroups/limits"
	"gocker/step06-cgroups/trees"
)

func main() {
	lesson.Main("step06-cgroups", usernamespace.Enter(run))
}

func run(ctx context.Context, stdin io.Reader, stdout io.Writer, args []string) error {
	var c container
	var limit limits.Limits
	flags := lesson.Flags(stdout, &c.Dirs, "step06-cgroups [flags] [IMAGE [CMD…]]",
		"Runs CMD, or a shell if you name none, in its own namespaces and with limits.")
	flags.StringVar(&limit.Memory, "m", "64m", "memory `limit`: bytes, with b, k, m or g; 0: none")
	flags.StringVar(&limit.CPUs, "cpus", "0.5", "`number` of processors; 0: no limit")
	flags.Int64Var(&limit.Pids, "pids-limit", 64, "how many processes it may have; -1: no limit")
	flags.StringVar(&c.controller, "experiment", "", "show a limit at work: `memory|cpu|pids|devices`")
	tell := story.Flag(flags, stdout)
	ref, err := lesson.Parse(flags, args)
	if err != nil {
		return err
	}
	c.command = lesson.Command(flags)
	if name := c.controller; name != "" {
		if c.experiment = experiments[name]; c.controller == "" {
			return fmt.Errorf("--experiment %q: there are memory, cpu, pids and devices", name)
		}
		limit, c.command, stdin = c.limits, []string{"/bin/sh", "-c", c.experiment.command}, nil
	}
	c.tell = *tell
	if c.resources, err = limit.Resources(); err != nil {
		return err
	}
	if err := check.Required(append(nscheck.Results(), trees.Check(cgroups.Controllers...))); err != nil {
		return err
	}
	if err := cgroups.RemoveDead(c.Dirs); err != nil {
		return err
	}
	if c.img, err = road.Get(ctx, c.Dirs, ref, lesson.Say(stdout)); err != nil {
		return err
	}
	status, err := c.run(ctx, stdin, stdout)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nnext: go run ./final run --rm -m 64m %s\n", strings.TrimSuffix(ref.String(), ":latest"))
	if status != 0 && c.controller == "" { // an experiment ends as it should
		return lesson.Exit(status)
	}
	return nil
}

type container struct {
	dirs.Dirs
	img       layers.Image
	command   []string
	resources *specs.LinuxResources
	experiment
	tell story.Story
}

func (c container) run(ctx context.Context, stdin io.Reader, stdout io.Writer) (status int, err error) {
	say := lesson.Say(stdout)
	f, err := overlay.Create(c.Dirs, c.img)
	if err != nil {
		return -1, err
	}
	f.Explain(c.tell)
	defer func() { err = errors.Join(err, f.Remove()) }()

	mounted, err := trees.Find()
	if err != nil {
		return -1, err
	}
	version, controllers := mounted.Mode()
	say("1. The cgroups of this machine are %s, with the controllers %s", version, strings.Join(controllers, ", "))

	say("2. Making the cgroup of container %s, into which the kernel puts files", f.ID)
	cg, err := cgroups.New(f, "gocker-"+f.ID)
	if err != nil {
		return -1, err
	}
	defer func() {
		cgroupbyhand.Remove(c.tell, cg)
		err = errors.Join(err, cgroups.RemoveRecorded(f))
	}()
	cgroupbyhand.New(c.tell, cg)
	say("   %s", strings.Join(cgroups.Paths(cg), "\n   "))

	if err := c.limit(stdout, cg); err != nil {
		return -1, err
	}

	say("5. Mounting its root, and making its process, which is in the cgroup before it does anything")
	if err := f.Mount(); err != nil {
		return -1, err
	}
	spec := namespaces.Spec(f.Mnt(), f.ID, c.command)
	streams := terminal.ForUser(spec.Process, stdin, stdout, os.Stderr)
	p, err := namespaces.Create(spec, streams, byhand.Create(spec, c.tell), cgroups.Into(cg), cgroupbyhand.Into(c.tell, cg))
	if err != nil {
		return -1, err
	}
	defer context.AfterFunc(ctx, p.Kill)()

	say("6. It becomes %s", strings.Join(c.command, " "))
	if c.about != "" {
		say("   %s", c.about)
	}
	if c.time > 0 {
		defer time.AfterFunc(c.time, p.Kill).Stop()
	}
	return c.measure(stdout, cg, func() (int, error) { return streams.Run(p) })
}

// measure says what the kernel counts while a container runs.
func (c container) measure(stdout io.Writer, cg cgroups.Cgroup, run func() (status int, err error)) (status int, err error) {
	say := lesson.Say(stdout)
	before, began := counters.Read(cg), time.Now() // the setup was not the command's
	status, err = run()
	if err != nil {
		return -1, err
	}

	say("7. It ended with status %d. The kernel has counted:", status)
	showCounters(stdout, cg, c.controller)
	used, took := counters.Read(cg).CPU-before.CPU, time.Since(began)
	say("   processor time: %.2fs in %.2fs, a share of %.2f", used.Seconds(), took.Seconds(), used.Seconds()/took.Seconds())
	return status, nil
}

// limit says what the processes of a cgroup may use.
func (c container) limit(stdout io.Writer, cg cgroups.Cgroup) error {
	say := lesson.Say(stdout)
	say("3. Writing its limits")
	settings := cgroups.Settings(c.resources)
	if err := cgroups.Set(cg, settings); err != nil {
		return err
	}
	cgroupbyhand.Set(c.tell, cg, settings)
	showSettings(stdout, cg, settings)

	if usernamespace.Inside() {
		say("4. No device is denied: only the machine's root may do that, and a user namespace's root makes none")
	} else {
		say("4. Denying it all devices but these")
		rules := append([]specs.LinuxDeviceCgroup{devices.DenyAll}, devices.Defaults()...)
		if err := devices.Guard(cg, rules); err != nil {
			return err
		}
		cgroupbyhand.Guard(c.tell, cg, rules)
		showRules(stdout, rules)
	}
	return nil
}
