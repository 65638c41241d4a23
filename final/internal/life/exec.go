//go:build linux

package life

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	mobyterm "github.com/moby/term"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/images"
	"gocker/final/internal/runtime"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
	"gocker/step06-cgroups/cgroups"
)

// ExecOptions are the flags of "gocker exec". An empty field is as for the container's first process.
type ExecOptions struct {
	Args        []string
	Env         []string
	Workdir     string
	User        string
	Terminal    bool
	Interactive bool
	DetachKeys  string // that leave it, with a terminal; the command continues
	Privileged  bool   // with all capabilities; the container's filter of system calls holds all the same
	quiet       bool   // the events do not tell of it
}

// Exec runs one more command in a running container, with the first one's capabilities, environment and cgroup.
func (life Life) Exec(name string, opts ExecOptions, streams Streams, tell story.Story) (status int, err error) {
	return life.exec(name, opts, streams, tell, func(*namespaces.Process) {})
}

// ExecDetached is Exec in the background: it returns when the command has started, and the command's output is lost.
func (life Life) ExecDetached(name string, opts ExecOptions, tell story.Story) error {
	if opts.Terminal || opts.Interactive {
		return advice.Add(errors.New("exec --detach does not go with --tty or --interactive"), "leave one of them out")
	}
	s, err := life.Containers.Running(name)
	if err != nil {
		return err
	}
	at, err := life.absolute()
	if err != nil {
		return err
	}
	process, err := inBackground(context.Background(), waiterName, waiterRequest{Dirs: at, ID: s.ID, Options: opts, Tells: tell != nil}, nil, tell)
	if err != nil {
		return err
	}
	return process.Release()
}

// waiterName is the name of the program that waits for a command in the background.
const waiterName = "gocker-exec"

type waiterRequest struct {
	Dirs    dirs.Dirs
	ID      string
	Options ExecOptions
	Tells   bool // what it does
}

// WaitForExec does nothing, unless this process is to run one more command in a container, in the background: then it never
// returns.
func WaitForExec() {
	var r waiterRequest
	if !isStartedAs(waiterName, &r) {
		return
	}
	var tell story.Story
	if r.Tells {
		tell = tellStarter
	}
	hasBegun := false
	_, err := New(r.Dirs).exec(r.ID, r.Options, Streams{}, tell, func(*namespaces.Process) {
		begun(nil)
		hasBegun = true
	})
	if !hasBegun {
		begun(err)
	}
	os.Exit(0)
}

func (life Life) exec(name string, opts ExecOptions, streams Streams, tell story.Story, started func(*namespaces.Process)) (status int, err error) {
	if err := check.Required([]check.Result{check.Privilege(), check.Proc()}); err != nil {
		return -1, fmt.Errorf("exec in %s: %w", name, err)
	}
	if err := describe.CheckProcess(opts.Workdir, opts.Env); err != nil {
		return -1, err
	}
	s, err := life.Containers.Running(name)
	if err != nil {
		return -1, err
	}
	if err := s.NotPaused(); err != nil {
		return -1, err
	}
	spec, err := life.describeExec(s, opts)
	if err != nil {
		return -1, err
	}
	keys, err := detachKeys(opts.DetachKeys)
	if err != nil {
		return -1, err
	}
	connected, user, err := connect(spec, opts.Interactive, streams)
	if err != nil {
		return -1, err
	}
	cg, err := cgroups.OpenRecorded(life.Containers.Dirs.Container(s.ID))
	if err != nil {
		return -1, err
	}
	still := namespaces.Part{Outside: func() error { return life.Containers.Still(s) }}
	p, err := runtime.Join(s.Pid, spec, connected, cg, tell, still)
	if errors.Is(err, unix.ESRCH) { // it has just ended
		err = fmt.Errorf("%w: %s", containers.ErrNotRunning, s.Name)
	}
	if failed := (birth.Failed{}); errors.As(err, &failed) && failed.Number == unix.SYS_CHDIR {
		err = fmt.Errorf("%w: %w", namespaces.ErrNotExecutable, err)
	}
	if err != nil {
		return -1, err
	}
	note := life.noteExec(s, opts)
	note("exec_create: " + strings.Join(opts.Args, " "))
	note("exec_start: " + strings.Join(opts.Args, " "))
	started(p)
	status, err = connected.Follow(p, user, leaving{mobyterm.NewEscapeProxy(user, keys)})
	if errors.Is(err, terminal.ErrLeft) {
		note("exec_detach")
		if err := keepTerminal(connected.Terminal); err != nil {
			return 0, err
		}
		return 0, ErrLeft
	}
	note("exec_die", "exitCode", strconv.Itoa(status))
	return status, err
}

// noteExec notes what happens to one command that exec runs. Its events have an id in common.
func (life Life) noteExec(s containers.State, opts ExecOptions) (note func(action string, attributes ...string)) {
	if opts.quiet {
		return func(string, ...string) {}
	}
	random := make([]byte, 32)
	rand.Read(random)
	id := hex.EncodeToString(random)
	return func(action string, attributes ...string) {
		life.Containers.Note(action, s, append(attributes, "execID", id)...)
	}
}

// describeExec is a container's description, with one more process in the place of its first.
func (life Life) describeExec(s containers.State, opts ExecOptions) (*specs.Spec, error) {
	spec, err := life.Containers.ReadProcess(s.ID)
	if err != nil {
		return nil, err
	}
	for i, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace && s.SharesPids { // config.json does not say what the others may do
			spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/pid", s.Pid)
		}
	}
	process := spec.Process
	process.Args, process.Terminal, process.ConsoleSize = opts.Args, opts.Terminal, nil
	if opts.Workdir != "" {
		process.Cwd = filepath.Clean(opts.Workdir)
	}
	if opts.User != "" {
		f, err := life.Containers.View(s.ID)
		if err != nil {
			return nil, err
		}
		u, err := describe.LookUser(f, opts.User, s.Options.Attributes.GroupAdd...)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", namespaces.ErrNotExecutable, err)
		}
		process.User = u.User
		process.Env = images.LastOfEach(append(process.Env, "HOME="+u.Home))
	}
	if opts.Privileged {
		process.Capabilities = nil // nothing is taken away
	}
	process.Env = images.LastOfEach(append(process.Env, opts.Env...))
	return spec, nil
}

// leaving is a terminal that somebody leaves by the keys of its EscapeProxy.
type leaving struct{ io.Reader }

func (l leaving) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if errors.As(err, &mobyterm.EscapeError{}) {
		err = terminal.ErrLeft
	}
	return n, err
}

// keepTerminal keeps a terminal open that its user has left. If nobody had its other side, the programs that use it would get
// SIGHUP, and could not write to it.
func keepTerminal(master *os.File) error {
	process, err := inBackground(context.Background(), keeperName, struct{}{}, []*os.File{master}, nil)
	if err != nil {
		return err
	}
	return process.Release()
}

// keeperName is the name of the program that keeps such a terminal open.
const keeperName = "gocker-terminal"

// KeepTerminal does nothing, unless this process is to read a terminal until its end: then it never returns.
func KeepTerminal() {
	if !isStartedAs(keeperName, &struct{}{}) {
		return
	}
	begun(nil)
	io.Copy(io.Discard, os.NewFile(extraFiles, "terminal"))
	os.Exit(0)
}
