//go:build linux

// Command start measures how long a container takes from the command line to its end, beside what else starts one:
//
//	apt-get install podman crun runc util-linux
//	go run ./final/bench/start [-n 50] [-gocker FILE]
//
// All run the same files as root, the sample image's, and the same command, true. crun and runc get a prepared bundle:
// a plain folder, and the config.json that gocker itself made, so the same namespaces, mounts, capabilities and filter
// of system calls; and a second time with the one of "crun spec", which has no filter. podman runs the same files as an
// image. Then all run one more command, exec, in a container that runs.
//
// In each round everybody has one turn, and who begins changes, so whatever else the machine does is done to all. The
// table has medians, and the median of the rounds' ratios. CPU is that of the program and of all that it waited for:
// podman's is too small, as it leaves work to processes that it does not wait for.
//
// It works in a mount namespace of its own, with an empty /run in memory, as /run usually is, and without the empty v2
// tree that hybrid cgroups have: crun 1.8 refuses to run beside it.
package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/bench"
)

func main() {
	rounds := flag.Int("n", 50, "how often everybody has a turn")
	gocker := flag.String("gocker", "", "`file` of the gocker to measure (default: one built of these sources)")
	flag.Parse()
	if err := run(*rounds, *gocker); err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
}

func run(rounds int, gocker string) (err error) {
	dir, err := os.MkdirTemp("/var/tmp", "gocker-start-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := enterNamespace(); err != nil {
		return err
	}
	if gocker == "" {
		gocker = filepath.Join(dir, "gocker")
		if err := bench.Do("env", "CGO_ENABLED=0", "go", "build", "-o", gocker, "gocker/final"); err != nil {
			return err
		}
	}
	os.Setenv("GOCKER_ROOT", filepath.Join(dir, "images"))
	os.Setenv("GOCKER_RUN", "/run/gocker")
	podman := []string{"podman", "--root", filepath.Join(dir, "podman"), "--runroot", "/run/podman", "--cgroup-manager", "cgroupfs"}
	podmanRun := append(slices.Clone(podman), "run", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
	defer unix.Unmount(filepath.Join(dir, "podman", "overlay"), unix.MNT_DETACH) // podman's own mount; it may be missing

	// What runs, for exec; and of gocker's it is known what it looks like.
	if err := bench.Do(gocker, "run", "-d", "--name", "measured", "sample", "sleep", "100000"); err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, bench.Do(gocker, "rm", "-f", "measured")) }()
	same, err := bundle(dir, "same")
	if err != nil {
		return err
	}
	plain, err := plainBundle(dir)
	if err != nil {
		return err
	}
	rootfs := filepath.Join(dir, "rootfs")
	if err := bench.Do("sh", "-c", fmt.Sprintf("tar -C %s -c . | %s import -q - sample", rootfs, strings.Join(podman, " "))); err != nil {
		return err
	}
	for _, r := range []string{"crun", "runc"} {
		if err := setArgs(same, "sleep", "100000"); err != nil {
			return err
		}
		if err := bench.Do(r, "run", "--detach", "--bundle", same, "measured-"+r); err != nil {
			return err
		}
		defer func() { err = cmp.Or(err, bench.Do(r, "delete", "--force", "measured-"+r)) }()
	}
	if err := setArgs(same, "true"); err != nil {
		return err
	}
	if err := bench.Do(append(podmanRun, "-d", "--name", "measured", "sample", "sleep", "100000")...); err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, bench.Do(append(podman, "rm", "-f", "-t", "0", "measured")...)) }()

	if err := measure(rounds, []contender{
		{"gocker run --rm", []string{gocker, "run", "--rm", "sample", "true"}},
		{"crun run, same config", []string{"crun", "run", "--bundle", same, "once"}},
		{"crun run, crun spec", []string{"crun", "run", "--bundle", plain, "once"}},
		{"runc run, same config", []string{"runc", "run", "--bundle", same, "once"}},
		{"podman run --rm", append(podmanRun, "--rm", "sample", "true")},
		{"unshare … chroot", []string{"unshare", "-mpfuinC", "chroot", rootfs, "true"}},
	}); err != nil {
		return err
	}
	return measure(rounds, []contender{
		{"gocker exec", []string{gocker, "exec", "measured", "true"}},
		{"crun exec", []string{"crun", "exec", "measured-crun", "true"}},
		{"runc exec", []string{"runc", "exec", "measured-runc", "true"}},
		{"podman exec", append(podman, "exec", "measured", "true")},
	})
}

// enterNamespace gives this thread, and all that it starts, mounts of its own.
func enterNamespace() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace (this needs root): %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on /run: %w", err)
	}
	unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH) // where it is missing, all is well
	return nil
}

// bundle makes a bundle of the container that runs: its config.json, and its files in dir/rootfs.
func bundle(dir, name string) (string, error) {
	found, err := filepath.Glob("/run/gocker/containers/*/config.json")
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("look for the container's config.json: found %q, %v", found, err)
	}
	if err := bench.Do("cp", "-a", filepath.Join(filepath.Dir(found[0]), "fs", "mnt"), filepath.Join(dir, "rootfs")); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(found[0])
	if err != nil {
		return "", err
	}
	return writeBundle(dir, name, raw)
}

// plainBundle makes one of what "crun spec" writes, but for its terminal.
func plainBundle(dir string) (string, error) {
	if err := bench.Do("crun", "spec", "--bundle", dir); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return "", err
	}
	path, err := writeBundle(dir, "plain", raw)
	if err != nil {
		return "", err
	}
	return path, setArgs(path, "true")
}

func writeBundle(dir, name string, config []byte) (path string, err error) {
	var spec specs.Spec
	if err := json.Unmarshal(config, &spec); err != nil {
		return "", err
	}
	spec.Version = "1.0.2" // what Debian's know
	spec.Root.Path = filepath.Join(dir, "rootfs")
	spec.Process.Terminal = false
	spec.Process.Rlimits = nil // they would need CAP_SYS_RESOURCE, which a machine may lack
	path = filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		return "", err
	}
	return path, writeSpec(path, spec)
}

func setArgs(bundle string, args ...string) error {
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return err
	}
	var spec specs.Spec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	spec.Process.Args = args
	return writeSpec(bundle, spec)
}

func writeSpec(bundle string, spec specs.Spec) error {
	raw, err := json.MarshalIndent(spec, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, "config.json"), raw, 0o644)
}

type contender struct {
	name string
	args []string
}

// measure prints the table. The first contender is the one that the others are compared with.
func measure(rounds int, contenders []contender) error {
	wall, cpu := make([][]float64, len(contenders)), make([][]float64, len(contenders)) // in ms
	for round := range rounds + 2 {
		for turn := range contenders {
			i := (round + turn) % len(contenders)
			w, c, err := once(contenders[i].args)
			if err != nil {
				return err
			}
			if round >= 2 { // the first ones only fill the caches
				wall[i], cpu[i] = append(wall[i], w), append(cpu[i], c)
			}
		}
	}
	fmt.Printf("%-22s  %9s  %9s  %s\n", fmt.Sprintf("median of %d", rounds), "wall", "CPU", "ours / theirs: wall, CPU")
	for i, c := range contenders {
		fmt.Printf("%-22s  %6.2f ms  %6.2f ms  %.3f  %.3f\n", c.name, bench.Median(wall[i]), bench.Median(cpu[i]),
			bench.MedianRatio(wall[0], wall[i]), bench.MedianRatio(cpu[0], cpu[i]))
	}
	fmt.Println()
	return nil
}

func once(args []string) (wall, cpu float64, err error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	err = cmd.Run()
	took := time.Since(began)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return ms(took), ms(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
