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
	"path/filepath"
	"slices"
	"strings"

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
	if gocker, err = prepare(dir, gocker); err != nil {
		return err
	}
	podman, podmanRun := podmanIn(dir)
	defer unix.Unmount(filepath.Join(dir, "podman", "overlay"), unix.MNT_DETACH) // podman's own mount; it may be missing

	// What runs, for exec; and of gocker's it is known what it looks like.
	if err := bench.Do(gocker, "run", "-d", "--network", "none", "--name", "measured", "sample", "sleep", "100000"); err != nil {
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
		if err := runDetached(r, same); err != nil {
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

	if err := bench.Starts(rounds, []bench.Contender{
		{Name: "gocker run --rm", Args: []string{gocker, "run", "--rm", "--network", "none", "sample", "true"}},
		{Name: "crun run, same config", Args: []string{"crun", "run", "--bundle", same, "once"}},
		{Name: "crun run, crun spec", Args: []string{"crun", "run", "--bundle", plain, "once"}},
		{Name: "runc run, same config", Args: []string{"runc", "run", "--bundle", same, "once"}},
		{Name: "podman run --rm", Args: append(podmanRun, "--rm", "sample", "true")},
		{Name: "unshare … chroot", Args: []string{"unshare", "-mpfuinC", "chroot", rootfs, "true"}},
	}); err != nil {
		return err
	}
	return bench.Starts(rounds, []bench.Contender{
		{Name: "gocker exec", Args: []string{gocker, "exec", "measured", "true"}},
		{Name: "crun exec", Args: []string{"crun", "exec", "measured-crun", "true"}},
		{Name: "runc exec", Args: []string{"runc", "exec", "measured-runc", "true"}},
		{Name: "podman exec", Args: append(podman, "exec", "measured", "true")},
	})
}

// prepare gives this program mounts of its own, and gocker its folders.
func prepare(dir, gocker string) (string, error) {
	if err := bench.OwnMounts(); err != nil {
		return "", err
	}
	os.Setenv("GOCKER_ROOT", filepath.Join(dir, "images"))
	os.Setenv("GOCKER_RUN", "/run/gocker")
	return bench.Gocker(dir, gocker)
}

// podmanIn is podman with folders of its own, and its run as gocker runs a container here.
func podmanIn(dir string) (podman, run []string) {
	podman = []string{"podman", "--root", filepath.Join(dir, "podman"), "--runroot", "/run/podman", "--cgroup-manager", "cgroupfs"}
	return podman, append(slices.Clone(podman), "run", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
}

// runDetached has crun or runc run a container that its exec can enter.
func runDetached(runtime, bundle string) error {
	if err := setArgs(bundle, "sleep", "100000"); err != nil {
		return err
	}
	return bench.Do(runtime, "run", "--detach", "--bundle", bundle, "measured-"+runtime)
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
