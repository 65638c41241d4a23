//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// candidates are the files that a command may be. There is always one.
func candidates(process *specs.Process) []string {
	command := process.Args[0]
	if command == "" || strings.Contains(command, "/") {
		return []string{command}
	}
	var paths []string
	for _, dir := range filepath.SplitList(searchPath(process.Env)) {
		paths = append(paths, filepath.Join(dir, command))
	}
	if len(paths) == 0 {
		return []string{""}
	}
	return paths
}

// searchPath is the value of PATH, the last one as the shells see it.
func searchPath(env []string) (path string) {
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	return path
}

// whyNotExecuted finds the reason why none of the candidates was executed. It is called on a thread that is in the
// container.
func whyNotExecuted(process *specs.Process, errno syscall.Errno) error {
	command := process.Args[0]
	found := fmt.Errorf("%w: %q", ErrNotFound, command)
	if command != "" && !strings.Contains(command, "/") {
		found = fmt.Errorf("%w: %q in PATH %q", ErrNotFound, command, searchPath(process.Env))
	}
	for _, path := range candidates(process) {
		err := executable(path)
		switch {
		case err == nil && errno == unix.ENOENT:
			// execve(2) did not find what it names to run it, by "#!" or in its ELF header.
			return fmt.Errorf("%w: %q: the interpreter that it needs is not in the image", ErrNotFound, path)
		case err == nil:
			return fmt.Errorf("%w: %q: %w", ErrNotExecutable, path, errno)
		case errors.Is(err, ErrNotExecutable):
			found = err
		}
	}
	return found
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: %q", ErrNotFound, path)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotExecutable, err)
	case info.IsDir():
		return fmt.Errorf("%w: %q is a directory", ErrNotExecutable, path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return fmt.Errorf("%w: %q: %w", ErrNotExecutable, path, err)
	}
	return nil
}
