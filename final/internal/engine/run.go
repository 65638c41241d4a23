//go:build linux

package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"gocker/final/internal/runtime"
	"gocker/step01-pull/advice"
	"gocker/step01-pull/check"
	"gocker/step01-pull/pull"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
)

// RunOptions are the flags of "gocker run". What is empty is the image's choice. They cross to the process of a
// detached container as JSON.
type RunOptions struct {
	Image       pull.Reference
	Args        []string // instead of the image's Cmd
	Entrypoint  *string  // instead of the image's Entrypoint and Cmd; "" is none at all
	Name        string
	Hostname    string
	Env         []string // KEY=value
	Workdir     string
	User        string
	Limits      cgroups.Limits
	Terminal    bool
	Interactive bool
	Remove      bool
	Log         bool // write output to the container's log, not to the streams

	Isolation Isolation
	Mounts    Mounts
}

// Streams are what a container reads and writes.
type Streams struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	Started        func(id string) // called when its command runs; may be nil
}

// Run makes a container and runs it to its end. status is that of its command. On every way out the container's
// processes, mounts and cgroup are gone, and with opts.Remove, or if it never ran, its folder too.
func (e Engine) Run(opts RunOptions, streams Streams, say func(format string, args ...any)) (status int, err error) {
	resources, err := opts.Limits.Resources()
	if err != nil {
		return -1, err
	}
	if r := check.Privilege(); !r.OK {
		return -1, check.Explain(errors.New("run"), []check.Result{r})
	}
	// From here on a signal cancels ctx, and once the container runs, it is passed on to it instead.
	ctx, signals := catchSignals()
	defer signals.stop()
	if err := e.bury(); err != nil {
		return -1, err
	}
	img, err := e.image(ctx, opts.Image, say)
	if err != nil {
		return -1, err
	}
	f, err := overlay.Create(e.Dirs, img)
	if err != nil {
		return -1, err
	}
	state := State{
		State: specs.State{Version: specs.Version, ID: f.ID, Status: specs.StateCreating, Bundle: f.Dir},
		Name:  cmp.Or(opts.Name, f.ID), Image: opts.Image.String(), Created: time.Now(), Remove: opts.Remove,
		StopSignal: cmp.Or(img.Config.Config.StopSignal, "SIGTERM"),
	}
	started := false
	defer func() {
		if opts.Remove || !started {
			err = errors.Join(err, e.remove(f, state))
			return
		}
		state.ExitCode, state.Finished = status, time.Now()
		err = errors.Join(err, e.stop(f, state))
	}()
	if err := e.takeName(state.Name, f.ID); err != nil {
		return -1, err
	}
	if err := f.Mount(); err != nil {
		return -1, err
	}
	spec, err := e.spec(f, img.Config.Config, opts)
	if err != nil {
		return -1, err
	}
	if err := addMounts(spec, opts.Mounts); err != nil {
		return -1, err
	}
	spec.Linux.Resources = resources
	state.Command = spec.Process.Args

	stdio, terminal, err := connect(spec.Process, opts.Terminal, opts.Interactive, streams)
	if err != nil {
		return -1, err
	}
	if opts.Log {
		log, err := createLog(f.Dir)
		if err != nil {
			return -1, err
		}
		defer log.close()
		stdio.Stdout, stdio.Stderr = log.stream("stdout"), log.stream("stderr")
	}
	if err := writeJSON(filepath.Join(f.Dir, "config.json"), spec); err != nil {
		return -1, err
	}
	if err := writeJSON(filepath.Join(f.Dir, "state.json"), state); err != nil {
		return -1, err
	}
	if err := context.Cause(ctx); err != nil {
		return -1, err
	}
	c, err := runtime.Create(f, spec, stdio)
	if err != nil {
		return -1, err
	}
	state.Status, state.Pid = specs.StateRunning, c.Pid
	if err := writeJSON(filepath.Join(f.Dir, "state.json"), state); err != nil {
		c.Abort()
		return -1, errors.Join(err, cgroups.Remove(c.Cgroup))
	}
	signals.passTo(c.Process)
	status, err = c.Run(terminal, streams.Stdout, func() {
		started = true
		if streams.Started != nil {
			streams.Started(f.ID)
		}
	})
	return status, err
}

// connect says what the streams of a container's process are: the user's, pipes, or a terminal of its own.
func connect(process *specs.Process, wantTerminal, interactive bool, streams Streams) (stdio namespaces.Stdio, terminal *os.File, err error) {
	stdio = namespaces.Stdio{Stdout: hideTerminal(streams.Stdout), Stderr: hideTerminal(streams.Stderr)}
	if interactive && streams.Stdin != nil {
		stdio.Stdin = streams.Stdin
	}
	if !wantTerminal {
		return stdio, nil, nil
	}
	if terminal = namespaces.UseTerminal(process, streams.Stdin); terminal == nil {
		return stdio, nil, advice.Add(errors.New("-t: standard input is no terminal"), "leave out -t, or run it from a terminal")
	}
	if !interactive {
		terminal = nil
	}
	return stdio, terminal, nil
}

// image opens the image, and pulls it where it is not here.
func (e Engine) image(ctx context.Context, ref pull.Reference, say func(format string, args ...any)) (layers.Image, error) {
	image, err := layers.Lookup(e.Dirs, ref)
	if errors.Is(err, layers.ErrNoImage) {
		say("Unable to find image %s here: pulling it", ref)
		img, err := e.Pull(ctx, ref, PullOptions{})
		return img.Image, err
	}
	if err != nil {
		return layers.Image{}, err
	}
	return layers.Open(e.Dirs, image)
}

// spec describes the container: the image's config, changed by the flags.
func (e Engine) spec(f *overlay.FS, config v1.Config, opts RunOptions) (*specs.Spec, error) {
	args := append(slices.Clone(config.Entrypoint), cmpOr(opts.Args, config.Cmd)...)
	if opts.Entrypoint != nil {
		args = opts.Args
		if *opts.Entrypoint != "" {
			args = append([]string{*opts.Entrypoint}, opts.Args...)
		}
	}
	if len(args) == 0 {
		return nil, advice.Add(fmt.Errorf("image %s has no command", opts.Image), "name one: gocker run %s COMMAND", opts.Image)
	}
	user, err := lookUser(f, cmp.Or(opts.User, config.User))
	if err != nil {
		return nil, err
	}
	spec := namespaces.Spec(f.Mnt(), cmp.Or(opts.Hostname, f.ID), args)
	spec.Process.User = user.User
	spec.Process.Cwd = filepath.Join("/", cmp.Or(opts.Workdir, config.WorkingDir))
	if err := isolate(spec, opts.Isolation); err != nil {
		return nil, err
	}
	if err := restrict(spec, opts.Isolation); err != nil {
		return nil, err
	}
	env := append(spec.Process.Env, "HOSTNAME="+spec.Hostname, "HOME="+user.home)
	spec.Process.Env = lastOfEach(append(append(env, config.Env...), opts.Env...))
	return spec, nil
}

func cmpOr(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}

// lastOfEach keeps the last value of every variable, at the place of the first.
func lastOfEach(env []string) []string {
	var out []string
	at := map[string]int{}
	for _, variable := range env {
		key, _, _ := strings.Cut(variable, "=")
		if i, ok := at[key]; ok {
			out[i] = variable
			continue
		}
		at[key] = len(out)
		out = append(out, variable)
	}
	return out
}

// hideTerminal puts a pipe between the container and a terminal of the host: a process that has the terminal itself
// could do more with it than write (ioctl_tty(2)). Files and pipes are passed on as they are.
func hideTerminal(out io.Writer) io.Writer {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return struct{ io.Writer }{out}
	}
	return out
}

// signals takes the signals that would end this program, so that it always ends by returning.
type signals struct {
	ch     chan os.Signal
	mu     sync.Mutex
	target *namespaces.Process
}

// Interrupted is the error of a run that a signal ended before the container ran.
type Interrupted struct{ Signal syscall.Signal }

func (i Interrupted) Error() string { return "interrupted by signal: " + i.Signal.String() }

func catchSignals() (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &signals{ch: make(chan os.Signal, 16)}
	signal.Notify(s.ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	go func() {
		asked := 0
		for sig := range s.ch {
			s.mu.Lock()
			target := s.target
			s.mu.Unlock()
			if target == nil {
				cancel(Interrupted{sig.(syscall.Signal)})
				continue
			}
			// PID 1 of a pid namespace gets only the signals that it has a handler for. Who asks for the third time
			// means it.
			if sig == unix.SIGINT || sig == unix.SIGTERM {
				asked++
			}
			if asked >= 3 {
				sig = unix.SIGKILL
			}
			target.Signal(sig)
		}
	}()
	return ctx, s
}

func (s *signals) passTo(p *namespaces.Process) {
	s.mu.Lock()
	s.target = p
	s.mu.Unlock()
}

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.ch)
}
