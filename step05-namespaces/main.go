//go:build linux

// Step 5: a process that sees only itself.
//
//	go run ./step05-namespaces [-explain] [-network] [IMAGE [CMD…]]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/road"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/byhand"
	"gocker/step05-namespaces/lsns"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/nscheck"
	"gocker/step05-namespaces/terminal"
)

func main() {
	lesson.Main("step05-namespaces", usernamespace.Enter(run))
}

func run(ctx context.Context, stdin io.Reader, stdout io.Writer, args []string) error {
	var d dirs.Dirs
	flags := lesson.Flags(stdout, &d, "step05-namespaces [flags] [IMAGE [CMD…]]",
		"Runs CMD, or a shell if you name none, in its own namespaces.")
	tell := story.Flag(flags, stdout)
	connected := flags.Bool("network", false, "connect it to the host, and to one more container that plays another machine")
	ref, err := lesson.Parse(flags, args)
	if err != nil {
		return err
	}
	if err := check.Required(nscheck.Results()); err != nil {
		return err
	}
	if err := overlay.RemoveDead(d); err != nil {
		return err
	}
	img, err := road.Get(ctx, d, ref, lesson.Say(stdout))
	if err != nil {
		return err
	}
	c := container{img: img, command: lesson.Command(flags), connected: *connected, tell: *tell}
	status, err := c.run(ctx, d, stdin, stdout)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nnext: go run ./step06-cgroups %s\n", strings.TrimSuffix(ref.String(), ":latest"))
	if status != 0 {
		return lesson.Exit(status)
	}
	return nil
}

type container struct {
	img       layers.Image
	command   []string
	connected bool
	tell      story.Story
}

func (c container) run(ctx context.Context, d dirs.Dirs, stdin io.Reader, stdout io.Writer) (status int, err error) {
	f, err := overlay.Create(d, c.img)
	if err != nil {
		return -1, err
	}
	f.Explain(c.tell)
	defer func() { err = errors.Join(err, f.Remove()) }()
	fmt.Fprintf(stdout, "1. Mounting the root file system of container %s, as step04-overlay does\n", f.ID)
	if err := f.Mount(); err != nil {
		return -1, err
	}

	fmt.Fprintf(stdout, "2. A thread goes into new namespaces, makes %s its root, and has a child there, which waits\n", f.Mnt())
	spec := namespaces.Spec(f.Mnt(), f.ID, c.command)
	streams := terminal.ForUser(spec.Process, stdin, stdout, os.Stderr)
	parts := []namespaces.Part{byhand.Create(spec, c.tell)}
	var machine *namespaces.Process // another one, to talk to
	if c.connected {
		var cable []namespaces.Part
		if machine, cable, err = connect(f, c.tell); err != nil {
			return -1, err
		}
		defer func() { err = errors.Join(err, disconnect(machine, c.tell)) }()
		parts = append(parts, cable...)
	}
	p, err := namespaces.Create(spec, streams, parts...)
	if err != nil {
		return -1, err
	}
	defer context.AfterFunc(ctx, p.Kill)()

	fmt.Fprintf(stdout, "3. What this program is in, and what pid %d is in, which is PID 1 in there\n", p.Pid)
	err = lsns.Compare(stdout, os.Getpid(), p.Pid)
	if err == nil && c.connected {
		err = showNetwork(stdout, p, machine)
	}
	if err != nil {
		p.Abort()
		return -1, err
	}

	fmt.Fprintf(stdout, "4. It becomes %s\n", strings.Join(c.command, " "))
	if status, err = streams.Run(p); err != nil {
		return -1, err
	}
	fmt.Fprintf(stdout, "5. It ended with status %d, and its namespaces with it\n", status)
	return status, nil
}
