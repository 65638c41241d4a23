//go:build linux

// Command network measures what a container's network costs, beside podman's with netavark:
//
//	apt-get install podman netavark iperf3 iproute2 util-linux
//	go run ./final/bench/network [-n 30] [-seconds 1] [-gocker FILE]
//
// First how long a container takes from the command line to its end: with the default network, with a published port, and with
// no network. Then how much ten connections carry: from container to container, to a published port from the host and from another
// machine, and from a container out to that machine. iperf3 runs in the containers' network namespaces. The other machine is one
// more network namespace.
//
// In each round everybody has one turn, and who begins changes, so whatever else the machine does is done to all. The tables have
// medians, and the median of the rounds' ratios. CPU is that of the program and of all that it waited for: podman's is too small,
// as it leaves work to processes that it does not wait for.
//
// It works in network and mount namespaces of its own. The machine's own network stays as it is.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gocker/final/bench"
	"gocker/step05-namespaces/network"
)

// The other machine, and the host's address on the cable to it.
var uplink = network.Uplink{Device: "uplink", Host: netip.MustParsePrefix("203.0.113.1/24"), There: netip.MustParsePrefix("203.0.113.7/24")}

func main() {
	rounds := flag.Int("n", 30, "how often everybody has a turn; a third of it for what is carried")
	seconds := flag.Int("seconds", 1, "how long ten connections carry something in a turn")
	gocker := flag.String("gocker", "", "`file` of the gocker to measure (default: one built of these sources)")
	flag.Parse()
	if err := run(*rounds, *seconds, *gocker); err != nil {
		fmt.Fprintln(os.Stderr, "network:", err)
		os.Exit(1)
	}
}

func run(rounds, seconds int, gocker string) (err error) {
	dir, err := os.MkdirTemp("/var/tmp", "gocker-network-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if gocker, err = bench.Gocker(dir, gocker); err != nil {
		return err
	}
	if err := bench.OwnMounts(); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare the network namespace: %w", err)
	}
	if err := bench.Do("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	config := filepath.Join(dir, "containers.conf")
	if err := os.WriteFile(config, []byte("[network]\nnetwork_backend = \"netavark\"\n"), 0o644); err != nil {
		return err
	}
	os.Setenv("CONTAINERS_CONF", config)
	os.Setenv("GOCKER_ROOT", filepath.Join(dir, "images"))
	os.Setenv("GOCKER_RUN", "/run/gocker")
	ours := engine{name: "gocker", command: []string{gocker}, port: 5201}
	theirs := engine{name: "podman", command: []string{"podman", "--root", filepath.Join(dir, "podman"), "--runroot", "/run/podman", "--cgroup-manager", "cgroupfs"},
		// Rights that a machine may lack, and that gocker does not need.
		more: []string{"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"}, port: 5202}
	defer unix.Unmount(filepath.Join(dir, "podman", "overlay"), unix.MNT_DETACH) // podman's own mount; it may be missing
	files := strings.Join(ours.with("cp", "files:/", "-"), " ") + " | " + strings.Join(theirs.with("import", "-q", "-", "sample"), " ")
	for _, args := range [][]string{ // both have the same files
		ours.with("pull", "-q", "sample"), ours.with("create", "--name", "files", "sample"), {"sh", "-c", files}, ours.with("rm", "files"),
	} {
		if err := bench.Do(args...); err != nil {
			return err
		}
	}
	if err := bench.Starts(rounds, []bench.Contender{
		{Name: "gocker", Args: ours.run("--rm", "sample", "true")},
		{Name: "gocker -p", Args: ours.run("--rm", "-p", "8080:80", "sample", "true")},
		{Name: "gocker, no network", Args: ours.run("--rm", "--network", "none", "sample", "true")},
		{Name: "podman", Args: theirs.run("--rm", "sample", "true")},
		{Name: "podman -p", Args: theirs.run("--rm", "-p", "8080:80", "sample", "true")},
		{Name: "podman, no network", Args: theirs.run("--rm", "--network", "none", "sample", "true")},
	}); err != nil {
		return err
	}
	return carried(max(rounds/3, 3), seconds, &ours, &theirs)
}

// An engine runs containers.
type engine struct {
	name    string
	command []string
	more    []string // options of run
	port    int      // of the host, that leads to its server

	server, client pid // of a process in each of two containers
	address        string
}

type pid string

func (e *engine) with(args ...string) []string { return slices.Concat(e.command, args) }

func (e *engine) run(args ...string) []string {
	return slices.Concat(e.command, []string{"run"}, e.more, args)
}

// ask returns what a command says.
func (e *engine) ask(args ...string) (string, error) {
	cmd := exec.Command(e.command[0], e.with(args...)[1:]...)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(output)), nil
}

// begin starts two containers, and iperf3 in the first one's network namespace.
func (e *engine) begin() (stop func(), err error) {
	if err := bench.Do(e.run("-d", "--name", "server", "-p", fmt.Sprintf("%d:5201", e.port), "sample", "sleep", "100000")...); err != nil {
		return nil, err
	}
	if err := bench.Do(e.run("-d", "--name", "client", "sample", "sleep", "100000")...); err != nil {
		return nil, err
	}
	for name, to := range map[string]*pid{"server": &e.server, "client": &e.client} {
		answer, err := e.ask("inspect", "--format", "{{.State.Pid}}", name)
		if err != nil {
			return nil, err
		}
		*to = pid(answer)
	}
	if e.address, err = e.server.address(); err != nil {
		return nil, err
	}
	stopServer, err := e.server.serve()
	return func() {
		if stopServer != nil {
			stopServer()
		}
		bench.Do(e.with("kill", "server", "client")...)
		bench.Do(e.with("rm", "-f", "server", "client")...)
	}, err
}

// in is a command in the network namespace of a process; "" is the host's.
func (p pid) in(args ...string) *exec.Cmd {
	if p != "" {
		args = append([]string{"nsenter", "--net=/proc/" + string(p) + "/ns/net"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	return cmd
}

func (p pid) address() (string, error) {
	output, err := p.in("ip", "-json", "-4", "addr", "show", "dev", "eth0").Output()
	if err != nil {
		return "", err
	}
	var found []struct {
		Addr []struct{ Local string } `json:"addr_info"`
	}
	if err := json.Unmarshal(output, &found); err != nil || len(found) != 1 || len(found[0].Addr) != 1 {
		return "", fmt.Errorf("the address of %s: %s, %w", p, output, err)
	}
	return found[0].Addr[0].Local, nil
}

// serve runs the server of iperf3 until stop.
func (p pid) serve() (stop func(), err error) {
	server := p.in("iperf3", "--server")
	if err := server.Start(); err != nil {
		return nil, err
	}
	return func() {
		server.Process.Kill()
		server.Wait()
	}, nil
}

// A way is from one network namespace to an address in another.
type way struct {
	from    pid
	address string
	port    int
}

// carry is how many Gbit/s ten connections carry.
func (w way) carry(seconds int) (float64, error) {
	var err error
	for range 50 { // a server begins to listen, or is busy with the last client
		output, runErr := w.from.in("iperf3", "--client", w.address, "--port", fmt.Sprint(w.port), "--parallel", "10", "--time", fmt.Sprint(seconds), "--json").Output()
		var result struct {
			Error string
			End   struct {
				Received struct {
					Bits float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		if err = errors.Join(runErr, json.Unmarshal(output, &result)); err == nil && result.Error == "" {
			return result.End.Received.Bits / 1e9, nil
		}
		err = fmt.Errorf("iperf3 to %s port %d: %w %s", w.address, w.port, err, result.Error)
		time.Sleep(100 * time.Millisecond)
	}
	return 0, err
}

// carried prints how much both carry.
func carried(rounds, seconds int, engines ...*engine) error {
	for _, e := range engines {
		stop, err := e.begin()
		if stop != nil {
			defer stop()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	machine := exec.Command("unshare", "--net", "sleep", "100000")
	if err := machine.Start(); err != nil {
		return err
	}
	defer machine.Wait()
	defer machine.Process.Kill()
	time.Sleep(time.Second) // until it is in its namespace
	if err := uplink.Plug(machine.Process.Pid); err != nil {
		return err
	}
	other := pid(fmt.Sprint(machine.Process.Pid))
	stop, err := other.serve()
	if err != nil {
		return err
	}
	defer stop()
	host := uplink.Host.Addr().String()
	fmt.Printf("%-40s %13s %13s  ours / theirs\n", fmt.Sprintf("ten connections, median of %d", rounds), engines[0].name, engines[1].name)
	for _, what := range []struct {
		name string
		of   func(e *engine) way
	}{
		{"container to container", func(e *engine) way { return way{e.client, e.address, 5201} }},
		{"host to published port", func(e *engine) way { return way{"", host, e.port} }},
		{"host to published port at 127.0.0.1", func(e *engine) way { return way{"", "127.0.0.1", e.port} }},
		{"other machine to published port", func(e *engine) way { return way{other, host, e.port} }},
		{"container to other machine", func(e *engine) way { return way{e.client, uplink.There.Addr().String(), 5201} }},
	} {
		var got [2][]float64
		for round := range rounds {
			for turn := range engines {
				i := (round + turn) % len(engines)
				rate, err := what.of(engines[i]).carry(seconds)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", engines[i].name, what.name, err)
				}
				got[i] = append(got[i], rate)
			}
		}
		fmt.Printf("%-40s %6.2f Gbit/s %6.2f Gbit/s  %.2f\n", what.name, bench.Median(got[0]), bench.Median(got[1]), bench.MedianRatio(got[0], got[1]))
	}
	return nil
}
