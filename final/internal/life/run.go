//go:build linux

package life

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/attach"
	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/logs"
	"gocker/final/internal/resources"
	"gocker/final/internal/runtime"
	"gocker/final/internal/why"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

// Streams are what a container reads and writes. nil: nothing to read, and nowhere to write.
type Streams struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
}

// Run makes a container and runs it to its end. status is that of its command. On every way out the container's
// processes, mounts and cgroup are gone, and with opts.Remove its folder too.
//
// Mostly its process is our child, and its streams are copied to ours. But a user may leave the container by detach keys, or
// its restart policy may start it again. Then it may outlive us, and a monitor runs it.
func (life Life) Run(opts describe.Options, attached AttachOptions, streams Streams, say func(format string, args ...any), tell story.Story) (status int, err error) {
	// From here on a signal cancels ctx, and once the container runs, it is passed on to it instead.
	ctx, signals := catchSignals()
	defer signals.stop()
	if err := canAttach(opts, attached, streams); err != nil {
		return -1, err
	}
	c, err := life.create(ctx, opts, say, tell)
	if err != nil {
		return -1, err
	}
	started := func() {
		if attached.Started != nil {
			attached.Started(c.State.Whole())
		}
	}
	if opts.Terminal || opts.Restart.Wanted() || !attached.SigProxy {
		follow, err := c.detachAttached(ctx, attached, streams)
		if err != nil {
			return -1, c.didNotStart(err)
		}
		started()
		return follow(signals)
	}
	// If nobody reads our output any more, the write fails, and the process gets to know: it must not end by our death.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	if sent := opts.Log.Name == "journald" || opts.Log.Name == "syslog"; sent || !opts.Remove { // else nobody could read its log
		if err := c.open(); err != nil {
			return -1, c.didNotStart(err)
		}
	}
	status, err = c.once(ctx, streams, signals, started)
	if c.State.Started.IsZero() {
		return status, c.didNotStart(err)
	}
	err = c.end(err)
	c.shut(status)
	return status, err
}

// open makes log and socket.
func (c *container) open() (err error) {
	if c.State.Options.Log.Name != "none" {
		if c.log, err = logs.Open(logs.Folder(c.FS.Dir), c.State.Options.Log, c.logDetails()); err != nil {
			return err
		}
		if err = c.log.AlsoTo(c.State.Options.Log, c.logTag()); err != nil {
			return err
		}
	}
	c.server, err = attach.Listen(c.FS.Dir)
	return err
}

// logDetails are what --log-opt wants in each line of the log; mostly nothing.
func (c *container) logDetails() map[string]string {
	s := c.State
	if len(s.Options.Log.Options) == 0 {
		return nil
	}
	return s.Options.Log.Details(s.Annotations, c.Spec.Process.Env, c.logTag())
}

func (c *container) logTag() describe.LogTag {
	s := c.State
	return describe.LogTag{
		ID: s.ID, FullID: s.Whole(), Name: s.Name, ImageID: dirs.Short(s.ImageID), ImageFullID: "sha256:" + s.ImageID, ImageName: s.Image,
		Command: strings.Join(s.Command, " "),
	}
}

// shut tells attached clients that it is over.
func (c *container) shut(status int) {
	if c.server != nil {
		c.server.Ended(status)
		c.server.Close()
	}
}

// end keeps or removes a container that has ended, with err.
func (c *container) end(err error) error {
	if !c.State.Options.Remove {
		return errors.Join(err, c.Close())
	}
	err = errors.Join(err, c.Remove(true))
	if c.State.Options.RemoveImage {
		c.life.Images.Remove(c.State.Options.Image, false) // if another container uses it, it stays
	}
	return err
}

// findUser finds the container's user, if the image did not know it, and has exec find it, too.
func (c *container) findUser() error {
	process := c.Spec.Process
	if process.User.Username == "" {
		return nil
	}
	if err := describe.FindUser(c.FS, process, c.State.Options.Attributes.GroupAdd); err != nil {
		return err
	}
	return c.WriteSpec(c.ID(), c.Spec)
}

// borrow finds the container's user, and takes what belongs to others: namespaces, and volumes until unused is called. If still
// returns an error, the namespaces are gone.
func (c *container) borrow() (still, unused func() error, err error) {
	if err := c.findUser(); err != nil {
		return nil, nil, err
	}
	if still, err = c.JoinOthers(); err == nil {
		unused, err = c.UseVolumes()
	}
	return still, unused, err
}

// once runs a container's process from its start to its end, and removes its cgroup. The state says what became of it;
// if it did not start, when it ran the last time.
func (c *container) once(ctx context.Context, streams Streams, signals *signals, started func()) (status int, err error) {
	still, unused, err := c.borrow()
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, unused()) }()
	if err := errors.Join(c.tellGiven(), c.giveMounts()); err != nil {
		return -1, err
	}
	if err := c.MountForUsers(); err != nil {
		return -1, err
	}
	connected, err := c.connect(streams)
	if err != nil {
		return -1, err
	}
	attached, err := c.attach(ctx)
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, attached.Leave()) }()
	p, err := runtime.Create(c.FS, c.Spec, connected, c.FS.Tell, namespaces.Part{Outside: still}, attached.Part(), attached.Tell(c.FS.Tell))
	if err != nil {
		return -1, err
	}
	attached.Serve()
	defer connected.Input.Close()
	defer func() { err = errors.Join(err, p.Remove()) }()
	if c.server != nil && c.State.Options.Interactive {
		c.server.Input(cmp.Or(connected.Terminal, connected.Input), !c.State.Options.Detached)
	}
	before := c.State
	if err := c.Change(hasBegun(p.Pid)); err != nil {
		p.Abort()
		return -1, err
	}
	c.NoteVolumes("mount")
	defer c.NoteVolumes("unmount")
	signals.passTo(passedOn{c.life, c.State.ID, p.Process})
	defer signals.passTo(nil)
	if err = context.Cause(ctx); err == nil { // a signal that came before was for nobody
		err = p.Start()
	} else {
		p.Abort()
	}
	if err != nil {
		changeErr := c.Change(func(s *containers.State) {
			before.Name = s.Name
			*s = before
		})
		return -1, errors.Join(err, changeErr)
	}
	status, err = c.untilEnd(p, connected, started)
	return status, errors.Join(err, c.hasEnded(p, status, err, streams))
}

// untilEnd is what is done while a container's process runs.
func (c *container) untilEnd(p *runtime.Container, connected *terminal.Streams, started func()) (status int, err error) {
	go c.Sync(c.State)
	c.Note("start", c.State)
	defer c.keepProbing()()
	if started != nil {
		started()
	}
	status, err = connected.Follow(p.Process, nil, nil)
	if c.log != nil {
		c.log.Flush()
	}
	return status, err
}

// hasBegun notes that a container runs, and has done nothing yet.
func hasBegun(pid int) func(s *containers.State) {
	return func(s *containers.State) {
		s.Status, s.Pid, s.Monitor, s.Started, s.Finished = specs.StateRunning, pid, os.Getpid(), time.Now(), time.Time{}
		s.ExitCode, s.Error, s.OOMKilled, s.Usage, s.End = 0, "", false, resources.Stats{}, why.End{}
		s.Boot, s.Stopped = containers.ThisBoot(), false
		if len(s.Probe) > 0 {
			s.Health = docker.Starting
		}
	}
}

// hasEnded notes how a container's process ended: with status, and with runErr if it was not only that.
func (c *container) hasEnded(p *runtime.Container, status int, runErr error, streams Streams) error {
	defer func() { c.Note("die", c.State, "exitCode", strconv.Itoa(status)) }()
	ended := func(s *containers.State) {
		s.Status, s.Pid, s.Monitor, s.Finished, s.ExitCode = specs.StateStopped, 0, 0, time.Now(), status
		if c.again(s, status) { // in one step: a command that waits for its end must not see an end that is none
			s.Status = containers.StateRestarting
		}
		if runErr != nil {
			s.Error = runErr.Error()
		}
	}
	if c.State.Options.Remove && !c.State.Options.Usage { // nobody will ask
		ended(&c.State)
		return nil
	}
	usage := resources.ReadStats(p.Cgroup)
	if c.State.Options.Usage {
		fmt.Fprint(c.errors(streams), usageLine(usage, c.Spec.Process.Terminal))
	}
	if usage.OOMKills > 0 {
		c.Note("oom", c.State)
	}
	end := why.Look(p, usage)
	err := c.Change(func(s *containers.State) {
		ended(s)
		s.Usage, s.OOMKilled = usage, usage.OOMKills > 0
		end.Sent = s.End.Sent
		s.End = end
	})
	if err != nil { // the disk is full: why it ended may be long, its status is not
		err = c.Change(ended)
	}
	if c.State.Status == containers.StateRestarting {
		c.Sync(c.State)
	}
	return err
}

// connect connects the streams of a container's process: with the user alone, or with attached clients, the log and the user.
func (c *container) connect(streams Streams) (*terminal.Streams, error) {
	if c.server == nil {
		connected, _, err := connect(c.Spec, c.State.Options.Interactive, streams)
		return connected, err
	}
	stdout, stderr := []io.Writer{c.server.Stdout()}, []io.Writer{c.server.Stderr()}
	if c.log != nil {
		stdout, stderr = append(stdout, c.log.Stream("stdout")), append(stderr, c.log.Stream("stderr"))
	}
	if streams.Stdout != nil {
		stdout = append(stdout, streams.Stdout)
	}
	if streams.Stderr != nil {
		stderr = append(stderr, streams.Stderr)
	}
	stdio := terminal.Stdio{Stdout: io.MultiWriter(stdout...), Stderr: io.MultiWriter(stderr...)}
	if c.State.Options.Interactive && streams.Stdin != nil {
		stdio.Stdin = streams.Stdin
	} else {
		stdio.Typed = c.State.Options.Interactive // by attached clients
	}
	return terminal.New(runtime.ProcessOutside(c.Spec), stdio), nil
}

func connect(spec *specs.Spec, interactive bool, streams Streams) (connected *terminal.Streams, user *os.File, err error) {
	stdio := terminal.Stdio{Stdout: streams.Stdout, Stderr: streams.Stderr}
	if interactive && streams.Stdin != nil {
		stdio.Stdin = streams.Stdin
	}
	if !spec.Process.Terminal {
		return terminal.New(runtime.ProcessOutside(spec), stdio), nil, nil
	}
	if user = terminal.Use(spec.Process, streams.Stdin); user == nil && interactive {
		return nil, nil, advice.Add(ErrNoTerminal, "leave out -t, or run it from a terminal")
	}
	if !interactive {
		user = nil
	}
	return terminal.New(runtime.ProcessOutside(spec), stdio), user, nil
}

// errors is where users who look at a container read messages that are not its output.
func (c *container) errors(streams Streams) io.Writer {
	if streams.Stderr == nil && c.server != nil {
		return c.server.Stderr()
	}
	return orDiscard(streams.Stderr)
}

// usageLine is what a container used, as the kernel counted. A terminal that passes keys on as they are wants a CR, too.
func usageLine(u resources.Stats, terminal bool) string {
	end := "\n"
	if terminal {
		end = "\r\n"
	}
	memory := "not counted by this kernel"
	if u.MemoryPeak > 0 {
		memory = units.BytesSize(float64(u.MemoryPeak)) + " at most"
	}
	return fmt.Sprintf("usage: memory %s, processor %s, read %s, written %s%s", memory, u.CPU.Round(time.Millisecond),
		units.BytesSize(float64(u.Read)), units.BytesSize(float64(u.Written)), end)
}
