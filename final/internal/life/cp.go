//go:build linux

package life

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/aside"
	"gocker/final/internal/containers"
	"gocker/final/internal/cp"
	"gocker/final/internal/idmap"
	"gocker/final/internal/runtime"
	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
)

// CopyOptions are the flags of "gocker cp".
type CopyOptions struct {
	Follow bool // a source that is a link stands for what it leads to
	// With Archive, copies into a container belong to its user, unless that is root, and copies out of it keep their owners.
	// Without it, copies into a container keep the numbers of their owners, and copies out of it belong to the caller.
	Archive bool
}

// CopyFrom copies a file or folder of a container to the host. With an output it goes there, as a tar archive.
func (life Life) CopyFrom(container, from, to string, output io.Writer, opts CopyOptions) error {
	return life.withRoot(container, func(tree cp.Tree, _ *specs.Spec) error {
		if output != nil {
			return cp.Pack(output, tree, from, cp.Options{Follow: opts.Follow})
		}
		o := cp.Options{Follow: opts.Follow}
		if !opts.Archive {
			o.Owner = &cp.Owner{UID: os.Geteuid(), GID: os.Getegid()}
		}
		return cp.Copy(tree, from, cp.Host, to, o)
	})
}

// Export writes all files of a container as a tar archive, without those of mounts.
func (life Life) Export(container string, output io.Writer) error {
	err := life.withRoot(container, func(tree cp.Tree, _ *specs.Spec) error {
		return cp.Pack(output, tree, "/", cp.Options{Bare: true})
	})
	if err != nil {
		return fmt.Errorf("export container %q: %w", container, err)
	}
	s, err := life.Containers.Find(container)
	if err == nil {
		life.Containers.Note("export", s)
	}
	return nil // it may be gone by now
}

// CopyTo copies a file or folder of the host into a container. With an input it is a tar archive from there.
func (life Life) CopyTo(from string, input io.Reader, container, to string, opts CopyOptions) error {
	return life.withRoot(container, func(tree cp.Tree, spec *specs.Spec) error {
		o := cp.Options{Follow: opts.Follow}
		if user := spec.Process.User; opts.Archive && user.UID != 0 {
			o.Owner = &cp.Owner{UID: int(user.UID), GID: int(user.GID)}
		}
		if input != nil {
			return cp.Unpack(input, tree, to, o)
		}
		return cp.Copy(cp.Host, from, tree, to, o)
	})
}

// withRoot calls do with the root folder of a container, as the container sees it. The container may run. Nothing of it is
// executed.
func (life Life) withRoot(container string, do func(tree cp.Tree, spec *specs.Spec) error) error {
	for began := time.Now(); ; {
		s, err := life.Containers.Find(container)
		if err != nil {
			return err
		}
		spec, err := life.Containers.ReadSpec(s.ID)
		if err != nil {
			return err
		}
		as := func(root *os.File) error { // what is mounted for its user namespace shows the host's ids
			return onThreadOfRoot(spec.Linux, func() error { return do(cp.InsideFor(root, spec.Linux), spec) })
		}
		f, err := overlay.Open(life.Containers.Dirs, s.ID)
		if err == nil {
			defer f.Close()
			if usernamespace.Inside() { // on the disk its files have the numbers that they have outside
				return life.withIdleRoot(s, spec, (*overlay.FS).MountAside, as)
			}
			return life.withIdleRoot(s, spec, (*overlay.FS).MountAside, func(root *os.File) error { return do(cp.Inside(root), spec) })
		}
		if !errors.Is(err, dirs.ErrLocked) {
			return err
		}
		if s.Status == containers.StateRestarting {
			if err := life.withIdleRoot(s, spec, aside.Mounted, as); !errors.Is(err, aside.ErrNotMounted) {
				return err
			}
		}
		root, err := life.runningRoot(s)
		if err == nil {
			defer root.Close()
			return as(root)
		}
		if !errors.Is(err, containers.ErrNotRunning) {
			return err
		}
		// Its process has just ended, or is about to begin.
		if err := life.Containers.WaitEnd(s, tail.PollTime); err != nil && time.Since(began) > killTime {
			return err
		}
	}
}

// onThreadOfRoot calls do on a thread that makes files as the root of a user namespace, if there is one.
func onThreadOfRoot(linux *specs.Linux, do func() error) error {
	if len(linux.UIDMappings) == 0 {
		return do()
	}
	return check.OnThread(func() error {
		if err := idmap.MakeFiles(linux); err != nil {
			return err
		}
		return do()
	})
}

func (life Life) runningRoot(s containers.State) (*os.File, error) {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", s.Pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", containers.ErrNotRunning, s.Name)
	}
	if err != nil {
		return nil, err
	}
	if err := life.Containers.Still(s); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// withIdleRoot is withRoot for a container without a process. aside says where its file system is mounted for us.
func (life Life) withIdleRoot(s containers.State, spec *specs.Spec, aside func(*overlay.FS, func() error) error, do func(root *os.File) error) (err error) {
	view, err := life.Containers.View(s.ID)
	if err != nil {
		return err
	}
	unused, err := life.Containers.UseVolumes(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unused()) }()
	return aside(view, func() error {
		if err := runtime.View(view.Dir, spec); err != nil {
			return err
		}
		root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer root.Close()
		// On another thread, which sees the host. This one keeps the mounts until that is done.
		done := make(chan error)
		go func() { done <- do(root) }()
		return <-done
	})
}
