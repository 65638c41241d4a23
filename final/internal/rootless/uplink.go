//go:build linux

package rootless

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/final/internal/enter"
	"gocker/final/internal/tiny"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/check"
)

// What connects the user's network namespace with the machine's is an ordinary program outside: what comes to a device in the
// namespace, it sends by sockets of its own, as any program of the user's can. There are two such programs, pasta and slirp4netns.
//
// It is started when the first container wants a way out, and serves all networks of the user. It ends with its guard, and that with
// the holder: see startGuard. If somebody kills one of the three, those who hold containers mend that: see KeepUplink.

// The addresses at both ends of the uplink. Nobody needs a way to link-local addresses of others; but see RFC 3927.
const (
	uplinkDevice  = "uplink"
	uplinkSubnet  = "169.254.83.0/24"
	uplinkAddr    = "169.254.83.100" // as slirp4netns numbers them
	uplinkRouter  = "169.254.83.2"
	uplinkAddr6   = "fd67:6f63:6b65:72::100"
	uplinkRouter6 = "fd67:6f63:6b65:72::2"
)

// MTU is how many bytes a packet may have there. No wire is behind it, and the program takes each packet apart: the larger they are, the
// faster it is.
const MTU = 65520

// ErrNoUplink says that there is no program for the way out.
var ErrNoUplink = advice.Add(errors.New("the networks of a user reach the world through the program pasta or slirp4netns, and neither is here"),
	"install the package passt, as root: apt install passt, or dnf install passt; or say --network none, or --network host")

// CheckUplink finds what keeps a user from having a way out. name is the program.
func CheckUplink() (name string, err error) {
	program, err := findUplink()
	if err != nil {
		return "", err
	}
	const device = "/dev/net/tun"
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrPermission):
		err = advice.Add(err, "let users open it, as root: chmod 666 %s", device)
	case err != nil:
		err = advice.Add(err, "load the module that makes it, as root: modprobe tun")
	default:
		f.Close()
	}
	return filepath.Base(program), err
}

func findUplink() (program string, err error) {
	for _, name := range []string{"pasta", "slirp4netns"} {
		if program, err = exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", ErrNoUplink
}

// Uplink has the networks connected with the machine's, and begins at once. The function that it returns waits for that.
func Uplink() (connected func() error, err error) {
	if !Apart() {
		return func() error { return nil }, nil
	}
	if _, err := CheckUplink(); err != nil {
		return nil, err
	}
	done := check.Elsewhere(func() (any, error) { return nil, connect() })
	return func() error {
		_, err := done()
		return err
	}, nil
}

// connect starts the program, unless it runs.
func connect() error {
	if err := InNetwork(func() error { return nil }); err != nil { // made, if need be
		return err
	}
	lock, err := dirs.Lock(uplinkFile(""))
	if err != nil {
		return err
	}
	defer lock.Close()
	running, guard := uplink()
	if _, pidfd, err := enter.Process(running); err == nil {
		return unix.Close(pidfd)
	}
	endGuard(guard)
	program, err := findUplink()
	if err != nil {
		return err
	}
	if err := holdAgain(); err != nil {
		return err
	}
	return connectBy(program)
}

// uplink are the lines of the program that was started last, and of its guard.
func uplink() (program, guard string) {
	raw, _ := os.ReadFile(uplinkFile("program"))
	program, guard, _ = strings.Cut(string(raw), "\n")
	return program + "\n", guard
}

// connectBy starts the program and its guard, and writes down which they are.
func connectBy(program string) error {
	guard, err := startGuard()
	if err != nil {
		return err
	}
	pid, err := start(program, guard)
	if err == nil {
		err = os.WriteFile(uplinkFile("program"), []byte(enter.LineOf(pid)+enter.LineOf(guard)), 0o600)
	}
	if err != nil { // the program ends with its guard
		endGuard(enter.LineOf(guard))
		return fmt.Errorf("connect the user's networks with the machine's: %w", err)
	}
	return nil
}

// pastaArgs are the words of a command that connects the namespace.
func pastaArgs() []string {
	args := []string{"pasta", "--quiet", "--config-net", "--mtu", fmt.Sprint(MTU), "--ns-ifname", uplinkDevice, "--netns", uplinkFile("netns"),
		"--address", uplinkAddr, "--netmask", "24", "--gateway", uplinkRouter,
		// Nothing of the machine's own is to be reached by addresses that only look like others: no ports of its loopback, and no
		// router that stands for it. All ports that are published, gocker serves.
		"--no-map-gw", "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-ra", "--no-dhcp", "--no-dhcpv6"}
	// It takes addresses and routes from a device with a default route, and there may be none.
	if device := deviceWithIPv6(); device != "" {
		return append(args, "--interface", device, "--address", uplinkAddr6, "--gateway", uplinkRouter6)
	}
	return append(args, "--interface", "lo", "--mac-addr", "02:00:00:00:00:01", "--ipv4-only")
}

// deviceWithIPv6 is a device of the machine that has IPv6 beside IPv4's loopback; "" if it has none.
func deviceWithIPv6() string {
	devices, _ := net.Interfaces()
	for _, device := range devices {
		addrs, _ := device.Addrs()
		for _, addr := range addrs {
			prefix, err := netip.ParsePrefix(addr.String())
			if err == nil && prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast() && device.Flags&net.FlagUp != 0 && len(device.HardwareAddr) == 6 {
				return device.Name
			}
		}
	}
	return ""
}

// slirpArgs are the words of a command that connects the namespace.
func slirpArgs(more ...string) []string {
	args := []string{"slirp4netns", "--configure", "--mtu", fmt.Sprint(MTU), "--disable-host-loopback", "--cidr", uplinkSubnet}
	return append(append(args, more...), "--netns-type", "path", uplinkFile("netns"), uplinkDevice)
}

// start starts the program, which ends when its guard does. It says in a pipe when the namespace is connected.
func start(program string, guard int) (pid int, err error) {
	ready, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ready.Close()
	defer write.Close()
	log, err := os.Create(uplinkFile("log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	name := filepath.Base(program)
	args, keep, stdout := append(pastaArgs(), "--foreground", "--pid", "/dev/stdout"), 3, write // pasta closes all others
	if name == "slirp4netns" {
		args, keep, stdout = slirpArgs("--ready-fd", "3"), 4, log // slirp4netns writes more there
	}
	cmd, done, err := command(program, args, keep)
	if err != nil {
		return 0, err
	}
	defer done()
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = stdout, log, []*os.File{write}
	if err := startBelow(guard, cmd); err != nil {
		return 0, fmt.Errorf("start %s: %w", name, err)
	}
	write.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // also when it is killed one day, and this process is still there
	if n, _ := ready.Read(make([]byte, 1)); n == 0 {
		said, _ := os.ReadFile(log.Name())
		return 0, failure(name, <-ended, string(said))
	}
	return cmd.Process.Pid, nil
}

// command is one that has no files from this process, but those below the number keep. With the lock among them the namespaces would
// never end, and a pipe of whoever has started gocker would have a writer.
func command(program string, args []string, keep int) (cmd *exec.Cmd, done func() error, err error) {
	begin, err := enter.NewProgram(args[0], []tiny.Call{
		closeFrom(keep),
		{Number: unix.SYS_EXECVE, Args: []any{program, args, os.Environ()}},
	})
	if err != nil {
		return nil, nil, err
	}
	return &exec.Cmd{
		Path: fmt.Sprint("/proc/self/fd/", begin.Fd()), Args: args[:1], Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}, begin.Close, nil
}

func closeFrom(first int) tiny.Call {
	return tiny.Call{Number: unix.SYS_CLOSE_RANGE, Args: []any{first, uintptr(math.MaxUint32), 0}}
}

// failure has what a program said before it ended. Both say also what a missing system log means to them.
func failure(program string, err error, said string) error {
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Failed to send ") {
			lines = append(lines, line)
		}
	}
	return advice.Add(fmt.Errorf("%s: %w: %s", program, err, strings.Join(lines, "; ")), "say --network none, or --network host")
}

// CheckPing finds what keeps the program from passing on what ping(8) sends: see icmp(7).
func CheckPing() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	if err != nil {
		return advice.Add(fmt.Errorf("a user of this group sends no ICMP: %w", err), "as root: sysctl net.ipv4.ping_group_range='0 2147483647'")
	}
	return unix.Close(fd)
}
