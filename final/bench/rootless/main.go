//go:build linux

// Command rootless measures how long a container of an ordinary user takes from the command line to its end, beside root's, and
// beside that of podman as the same user:
//
//	apt-get install podman crun slirp4netns passt uidmap
//	go run ./final/bench/rootless [-n 50] [-gocker FILE]
//
// First without a network, then with the default one: gocker's users have bridges, and podman's slirp4netns. All have the files of
// the sample image on an overlay, and none of the users has a cgroup: podman is asked for none, as a machine with v1 has none for it.
// Root's container has one.
//
// In each round everybody has one turn, and who begins changes, so whatever else the machine does is done to all. The tables have
// medians, and the median of the rounds' ratios. CPU is that of the program and of all that it waited for: podman's is too small,
// as it leaves work to processes that it does not wait for.
//
// It makes the user, in a mount namespace of its own: see package bench. The machine has no other user than before.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"gocker/final/bench"
)

func main() {
	rounds := flag.Int("n", 50, "how often everybody has a turn")
	gocker := flag.String("gocker", "", "`file` of the gocker to measure (default: one built of these sources)")
	flag.Parse()
	if err := run(*rounds, *gocker); err != nil {
		fmt.Fprintln(os.Stderr, "rootless:", err)
		os.Exit(1)
	}
}

func run(rounds int, gocker string) (err error) {
	dir, err := os.MkdirTemp("/var/tmp", "gocker-rootless-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, err := bench.Gocker(dir, gocker)
	if err := cmp.Or(err, bench.OwnMounts(), unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")); err != nil { // podman warns otherwise
		return err
	}
	user, err := bench.NewUser(dir)
	if err != nil {
		return err
	}
	os.Setenv("GOCKER_ROOT", filepath.Join(dir, "images"))
	os.Setenv("GOCKER_RUN", "/run/gocker")
	podman := []string{"podman", "--root", filepath.Join(user.Home, "podman"), "--runroot", filepath.Join(user.Home, "run"), "--storage-driver", "overlay",
		"--cgroup-manager", "cgroupfs", "--runtime", "crun"}
	defer func() { err = cmp.Or(err, user.Do(append(podman, "system", "migrate")...)) }() // ends the process that holds podman's namespaces

	archive := filepath.Join(user.Home, "sample.tar")
	if err := cmp.Or(bench.Do(program, "pull", "-q", "sample"), user.Do(program, "pull", "-q", "sample"), user.Do(program, "save", "-o", archive, "sample"), user.Do(append(podman, "load", "-q", "-i", archive)...)); err != nil {
		return err
	}
	for _, network := range [][]string{{"--network", "none"}, nil} {
		args := func(program []string, more ...string) []string {
			return slices.Concat(program, []string{"run", "--rm"}, network, more, []string{"sample", "true"})
		}
		fmt.Println("run --rm", network)
		if err := bench.Starts(rounds, []bench.Contender{
			{Name: "gocker, the user's", Args: args([]string{program}), As: user},
			{Name: "gocker, root's", Args: args([]string{program})},
			{Name: "podman, the user's", Args: args(podman, "--cgroups=disabled"), As: user},
		}); err != nil {
			return err
		}
	}
	return nil
}
