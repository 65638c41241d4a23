//go:build linux

package life

import (
	"errors"

	"gocker/final/internal/describe"
	"gocker/final/internal/runtime"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

// Rehearse makes a container as Run does, up to the point before its command is executed, and takes all of it away
// again. So tell hears what a run asks of the kernel. Files of the host keep their owners.
func (life Life) Rehearse(opts describe.Options, say func(format string, args ...any), tell story.Story) (err error) {
	if opts.Isolation.Users.Own() {
		return advice.Add(errors.New("--explain=sh makes no script of a container with a user namespace of its own"), "say --userns host; --explain tells of it, and runs the container")
	}
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := life.create(ctx, opts, say, tell)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Remove(true)) }()
	still, unused, err := c.borrow()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unused()) }()
	if err := c.tellGiven(); err != nil {
		return err
	}
	if err := c.MountForUsers(); err != nil {
		return err
	}
	attached, err := c.attach(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, attached.Leave()) }()
	p, err := runtime.Create(c.FS, c.Spec, terminal.New(c.Spec.Process, terminal.Stdio{}), tell, namespaces.Part{Outside: still}, attached.Part(), attached.Tell(tell))
	if err != nil {
		return err
	}
	p.Abort()
	return p.Remove()
}
