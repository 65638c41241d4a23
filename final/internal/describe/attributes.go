//go:build linux

package describe

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/tiny"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
)

// Attributes are flags of "run" that the kernel keeps for a process, or for a namespace.
type Attributes struct {
	Ulimits    []string // nofile=SOFT[:HARD]
	Sysctls    []string // KEY=value
	GroupAdd   []string // more groups, by name or number
	Domainname string
	Umask      string // octal; "" is 022
	Init       bool   // PID 1 is not the command, but a small program that starts it
}

// setAttributes puts them into the spec; groups are those of LookUser.
func setAttributes(spec *specs.Spec, opts Attributes) error {
	if opts.Umask != "" {
		n, err := strconv.ParseUint(opts.Umask, 8, 9)
		if err != nil {
			return advice.Add(fmt.Errorf("--umask %q: %w", opts.Umask, ErrOption), "write an octal number, for example 027")
		}
		umask := uint32(n)
		spec.Process.User.Umask = &umask
	}
	for _, limit := range opts.Ulimits {
		l, err := units.ParseUlimit(limit)
		if err != nil {
			return advice.Add(fmt.Errorf("--ulimit %q: %w", limit, err), "write NAME=SOFT[:HARD], for example nofile=1024; -1 is no limit")
		}
		unlimited := func(n int64) uint64 {
			if n == -1 {
				return math.MaxUint64
			}
			return uint64(n)
		}
		spec.Process.Rlimits = append(spec.Process.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: unlimited(l.Soft), Hard: unlimited(l.Hard),
		})
	}
	for _, sysctl := range opts.Sysctls {
		key, value, ok := strings.Cut(sysctl, "=")
		if !ok || key == "" {
			return advice.Add(fmt.Errorf("--sysctl %q: %w", sysctl, ErrOption), "write NAME=VALUE, for example net.ipv4.ip_forward=1")
		}
		if spec.Linux.Sysctl == nil {
			spec.Linux.Sysctl = map[string]string{}
		}
		spec.Linux.Sysctl[key] = value
	}
	spec.Domainname = opts.Domainname
	return nil
}

// The small program is this file of a container's folder, and is seen there in the container.
const (
	initName = "init"
	initPath = "/dev/init"
)

// addInit puts tiny.Init in front of the command. It finds no commands by PATH, so that is done here.
func addInit(f *overlay.FS, spec *specs.Spec) error {
	process := spec.Process
	command, err := findCommand(f, process)
	if err != nil {
		return err
	}
	file := filepath.Join(f.Dir, initName)
	if err := os.WriteFile(file, tiny.Init(), 0o755); err != nil {
		return err
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{
		Destination: initPath, Type: "bind", Source: file, Options: []string{"rbind", "rprivate", "ro", "exec"}, // /run may be noexec
	})
	process.Args = append([]string{initPath, command}, process.Args...)
	return nil
}

// findCommand is the first file in PATH that has the command's name, as the image's links lead.
func findCommand(f *overlay.FS, process *specs.Process) (string, error) {
	command := process.Args[0]
	if strings.Contains(command, "/") {
		return command, nil
	}
	root, err := os.Open(f.Mnt())
	if err != nil {
		return "", err
	}
	defer root.Close()
	var path string
	for _, variable := range process.Env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join("/", dir, command)
		fd, err := unix.Openat2(int(root.Fd()), file, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			continue
		}
		var stat unix.Stat_t
		err = unix.Fstat(fd, &stat)
		unix.Close(fd)
		if err == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG && stat.Mode&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%w: %q in PATH %q", namespaces.ErrNotFound, command, path)
}
