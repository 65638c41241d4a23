//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step05-namespaces/network"
)

// probe is what runs in containers: "get ADDRESS" and "udp ADDRESS" ask a server, "serve TEXT" is one on port 80 that answers with
// TEXT and "ping ADDRESS" sends an ICMP echo.
func probe(args []string) string {
	patience := 10 * time.Second
	if len(args) > 2 && args[0] != "attack" && args[0] != "session" { // nobody is to answer
		patience = time.Second
	}
	result := func(answer []byte, err error) string {
		if err != nil {
			return "error: " + err.Error()
		}
		return string(answer)
	}
	switch args[0] {
	case "get":
		conn, err := net.DialTimeout("tcp", args[1], patience)
		if err != nil {
			return result(nil, err)
		}
		return result(io.ReadAll(conn))
	case "udp":
		conn, err := net.Dial("udp", args[1])
		if err != nil {
			return result(nil, err)
		}
		answer := make([]byte, 100)
		conn.SetDeadline(time.Now().Add(patience))
		conn.Write([]byte("?"))
		n, err := conn.Read(answer)
		return result(answer[:n], err)
	case "serve":
		packets, err := net.ListenPacket("udp", ":80")
		if err != nil {
			return result(nil, err)
		}
		go echo(packets, args[1])
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return result(nil, err)
		}
		answer(l, args[1])
	case "session":
		return result(nil, inSession(args[1:]))
	case "attack":
		attack(args[1], args[len(args)-1])
	case "ping":
		return result(nil, ping(netip.MustParseAddr(args[1]).As4(), patience))
	}
	return "what is " + args[0] + "?"
}

func ping(to [4]byte, patience time.Duration) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	timeout := unix.NsecToTimeval(int64(patience))
	echo := []byte{8, 0, 0, 0, 0, 0, 0, 1} // the kernel adds checksum and identifier
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	if err := unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: to}); err != nil {
		return err
	}
	_, _, err = unix.Recvfrom(fd, make([]byte, 100), 0)
	return err
}

// answer has a server answer each connection with a text, and echo each packet, until they are closed.
func answer(l net.Listener, text string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(conn, text)
		conn.Close()
	}
}

func echo(packets net.PacketConn, text string) {
	for buffer := make([]byte, 1500); ; {
		_, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		packets.WriteTo([]byte(text), from)
	}
}

// worldAddr is that of another machine.
const worldAddr = "203.0.113.7"

// world makes another machine, which the host reaches by a cable: the tests' network namespace stands for the host. It serves TCP and
// UDP on port 80, and names on port 53: all have its own address.
func world(t *testing.T) {
	t.Helper()
	machine := exec.Command("sleep", "1000")
	machine.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := machine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { machine.Process.Kill(); machine.Wait() })
	host := network.Switch{Name: "world0", Addrs: []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24")}}
	cable := network.Cable{Host: "world1", Switch: "world0", Pid: machine.Process.Pid, Device: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix(worldAddr + "/24")}}
	if err := host.Make(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Remove(); cable.Pull() })
	if err := cable.Lay(); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	var packets, names net.PacketConn
	err := network.Within(machine.Process.Pid, func() (err error) {
		if l, err = net.Listen("tcp", worldAddr+":80"); err != nil {
			return err
		}
		if packets, err = net.ListenPacket("udp", worldAddr+":80"); err != nil {
			return err
		}
		names, err = net.ListenPacket("udp", worldAddr+":53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); packets.Close(); names.Close() })
	go answer(l, "the world")
	go echo(packets, "the world by UDP")
	go serveNames(names)
	file := filepath.Join(t.TempDir(), "resolv.conf")
	err = os.WriteFile(file, []byte("nameserver "+worldAddr+"\n"), 0o644)
	if err == nil {
		err = os.Chmod(filepath.Dir(file), 0o755)
	}
	if err == nil {
		err = os.Chmod(filepath.Dir(filepath.Dir(file)), 0o755)
	}
	if err == nil {
		err = unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH) })
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0); err != nil {
		t.Fatal(err)
	}
}

// serveNames answers each question for an IPv4 address, whatever the name, with the world's: see RFC 1035.
func serveNames(names net.PacketConn) {
	for buffer := make([]byte, 1500); ; {
		n, from, err := names.ReadFrom(buffer)
		if err != nil {
			return
		}
		const header = 12
		end := header + bytes.IndexByte(buffer[header:n], 0) + 1
		a := bytes.Clone(buffer[:end+4])
		copy(a[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
		if binary.BigEndian.Uint16(a[end:]) == 1 {
			a[7] = 1
			a = append(a, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
			a = append(a, netip.MustParseAddr(worldAddr).AsSlice()...)
		}
		names.WriteTo(a, from)
	}
}

// inWorld is a user in a world, with a script that has helpers: inside OPTIONS… COMMAND… runs the probe in a container, and say NAME
// COMMAND… shows what a command prints. The machine is without the programs that are missing.
func inWorld(t *testing.T, missing ...string) (run func(script string) string) {
	t.Helper()
	u := testenv.OrdinaryUser(t, testenv.Subids())
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		testenv.Lacks(t, "/dev/net/tun")
	}
	world(t)
	for _, name := range missing {
		if program, err := exec.LookPath(name); err == nil {
			hide(t, program)
		}
	}
	asUser(t, u, "gocker pull -q sample")
	return func(script string) string {
		return asUser(t, u, `
probe="-e BE=probe -v $HOME/gocker:/probe"
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 || echo "status $?"; }
inside() { gocker run --rm $probe "$@"; }
`+script)
	}
}

func TestAUserHasNetworks(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "pasta", "pgrep")
	run := inWorld(t)
	out := run(`
say out inside sample /probe get 203.0.113.7:80
say udp inside sample /probe udp 203.0.113.7:80
say name inside sample /probe get world.example:80
say ping inside sample /probe ping 203.0.113.7
say host inside --network host sample /probe get 203.0.113.7:80
say none inside --network none sample /probe get 203.0.113.7:80
gocker network create app >/dev/null
gocker network create --internal inner >/dev/null
gocker run -d --name web --network app -p 8080:80 -p 127.0.0.1:8081:80 -p 8080:80/udp $probe sample /probe serve 'the web' >/dev/null
until BE=probe gocker get 127.0.0.1:8080 | grep -q web; do sleep 0.1; done
say port gocker port web 80/udp
say published env BE=probe gocker get 127.0.0.1:8080
say v6 env BE=probe gocker get '[::1]:8080'
say other env BE=probe gocker get 203.0.113.1:8080
say loopback env BE=probe gocker get 203.0.113.1:8081
say udp env BE=probe gocker udp 127.0.0.1:8080
say neighbour inside --network app sample /probe get web:80
say alone inside sample /probe get web:80
say around inside sample /probe get 203.0.113.1:8080
say gateway inside --add-host me:host-gateway sample /probe get me:8080
say own inside sample /probe get 127.0.0.1:8080
say router inside sample /probe get 169.254.83.2:8081 soon
say inner inside --network inner sample /probe get 203.0.113.7:80
say low inside -p 80:80 sample true
say taken inside -p 8080:80 sample true
gocker network connect inner web
say mtu gocker exec web cat /sys/class/net/eth0/mtu
say devices gocker exec web ls /sys/class/net
say connected inside --network inner sample /probe get web:80
gocker network disconnect app web
say stays gocker network disconnect inner web
say nothing gocker exec web ls /sys/class/net
gocker network connect app web
say again env BE=probe gocker get 127.0.0.1:8080
say check gocker system check
gocker rm -f web >/dev/null
say prune gocker network prune -f
`)
	testenv.InOrder(t, out, "out: the world\n", "udp: the world by UDP\n", "name: the world\n", "ping: \n", "host: the world\n", "none: error: dial tcp 203.0.113.7:80: connect: network is unreachable\n",
		"port: 0.0.0.0:8080\n", "published: the web\n", "v6: the web\n", "other: the web\n", "loopback: error: dial tcp 203.0.113.1:8081: connect: connection refused\n", "udp: the web\n",
		"neighbour: the web\n", "alone: the world\n", "around: the web\n", "gateway: the web\n", "own: error: dial tcp 127.0.0.1:8080: connect: connection refused\n", "router: error: dial tcp 169.254.83.2:8081: ",
		"inner: error: dial tcp 203.0.113.7:80: connect: network is unreachable\n",
		"low: ", "publish 0.0.0.0:80/tcp: bind: permission denied\n", "sysctl net.ipv4.ip_unprivileged_port_start=80\n", "taken: ", "port 8080/tcp of the host is taken: by container web",
		"mtu: 65520\n", "devices: eth0\neth1\nlo\n", "connected: the web\n", "stays: nothing: lo\n", "again: the web\n", " are as they should be\n", "prune: Deleted Networks:\napp\ninner\n")
	noneLeft(t, "gocker-holder", "gocker-uplink", "passt|passt.avx2")
}

// The story of a user's networks makes them. The rest of the script wants root.
func TestAUsersNetworksCanBeMadeByHand(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "pasta", "nsenter", "ip", "nft")
	run := inWorld(t)
	out := run(`
gocker run --rm --explain=sh sample true >script
gocker network prune -f
sed -n '/^\[ "$(stat -f/,/^mkfifo/p' script | sed '$d' >part
gocker unshare sh -e part
rules=$(sed -n "s/.*nft list table \(inet gocker-[0-9a-f]*\) .*/\1/p" part)
gocker unshare nsenter --net=.local/share/gocker/run/gocker/uplink/netns sh -c "ip -4 -brief address; nft list table $rules"
`)
	testenv.InOrder(t, out, "gk0-", " 172.", ".0.1/16", "table inet gocker-", "ip saddr 172.", ".0.0/16") // the machine may have some of these subnets
}

func TestAUserHasNetworksByTheOtherProgram(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "slirp4netns", "pgrep")
	run := inWorld(t, "pasta")
	out := run(`
say out inside sample /probe get 203.0.113.7:80
say ping inside sample /probe ping 203.0.113.7
gocker run -d --name web -p 8080:80 $probe sample /probe serve 'the web' >/dev/null
until BE=probe gocker get 127.0.0.1:8080 | grep -q web; do sleep 0.1; done
say gateway inside --add-host me:host-gateway sample /probe get me:8080
gocker rm -f web >/dev/null
gocker doctor | grep 'way out'
`)
	testenv.InOrder(t, out, "out: the world\n", "ping: \n", "gateway: the web\n", "by slirp4netns\n")
	noneLeft(t, "gocker-holder", "gocker-uplink", "slirp4netns")
}

func TestWithoutAProgramForTheWayOutAUserIsToldWhatIsMissing(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	run := inWorld(t, "pasta", "slirp4netns")
	out := run(`
say out inside sample true
say ps gocker ps -aq
gocker network create --internal inner >/dev/null
say inner inside --network inner sample /probe ping 172.17.0.1
say doctor gocker doctor
`)
	const missing = "gocker: the networks of a user reach the world through the program pasta or slirp4netns, and neither is here\n  install the package passt, as root: apt install passt"
	testenv.InOrder(t, out, "out: "+missing, "status 125\nps: inner: ", "doctor: ", "note  way out ", "apt install passt")
}

// hide has a program be one that nobody may execute.
func hide(t *testing.T, program string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hidden")
	err := os.WriteFile(file, nil, 0o644)
	if err == nil {
		err = unix.Mount(file, program, "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(program, unix.MNT_DETACH) })
}

// Whatever is killed, the next container has a way out. So have those that run, without any command of the user's. And nothing stays.
func TestTheWayOutOfAUserIsMadeAgain(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "pasta", "pgrep", "pkill")
	out := inWorld(t)(isMadeAgain("passt|passt.av.*"))
	testenv.InOrder(t, out, " 5 the world\n", "programs: 1\n", "published: the web\n", "program: the world\n", "guard: the world\n", "holder: the world\n",
		"neighbour: the web\n", "held: the web\n", "holders: 1\n")
	noneLeft(t, "gocker-holder", "gocker-uplink", "passt|passt.av.*")
}

func TestTheWayOutOfAUserByTheOtherProgramIsMadeAgain(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "slirp4netns", "pgrep", "pkill")
	out := inWorld(t, "pasta")(isMadeAgain("slirp4netns"))
	testenv.InOrder(t, out, "program: the world\n", "guard: the world\n", "holder: the world\n")
	noneLeft(t, "gocker-holder", "gocker-uplink", "slirp4netns")
}

// After the machine started anew, the run folder says what was before, if it is on a disk, or is gone. In its place another folder may
// be the login's.
func TestAUserFindsTheTruthAfterTheMachineStartsAnew(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "pasta", "pgrep", "pkill")
	out := inWorld(t)(`
export XDG_RUNTIME_DIR=$HOME/login
mkdir login
off() {
  pkill -KILL -f '^gocker-(monitor|holder|uplink)'
  while pgrep -u $(id -u) 'sleep|passt' >/dev/null; do sleep 0.1; done
}
gocker network create app >/dev/null
gocker run -d --name one --network app $probe sample sh -c 'while :; do sleep 1000; done' >/dev/null
off
for f in namespaces uplink/program; do echo "$$ 5" >login/gocker/$f; done
say stays gocker ps -a --format '{{.Names}} {{.State}}'
say start gocker start one
say out gocker exec one /probe get 203.0.113.7:80
off
rm -r login
say missing gocker ps -aq
mkdir login
say gone gocker ps -a --format '{{.Names}} {{.State}}'
say again gocker start one
say out gocker exec one /probe get 203.0.113.7:80
say check gocker system check
gocker rm -f one
`)
	testenv.InOrder(t, out, "stays: one exited\n", "start: one\n", "out: the world\n", "missing: gone: one exited\n", "again: one\n", "out: the world\n", "are as they should be\n", "one\n")
	noneLeft(t, "gocker-holder", "gocker-uplink", "passt|passt.av.*")
}

// isMadeAgain is the script of both. At last it kills all at once. A container that reaches the world says so in a file.
func isMadeAgain(program string) string {
	return "program='" + program + `'
for i in 1 2 3 4 5; do inside sample /probe get 203.0.113.7:80 & done | sort | uniq -c
wait
echo programs: $(pgrep -x "$program" | wc -l)
gocker network create app >/dev/null
gocker run -d --name web --network app -p 8080:80 $probe sample /probe serve 'the web' >/dev/null
until BE=probe gocker get 127.0.0.1:8080 | grep -q web; do sleep 0.1; done
say published env BE=probe gocker get 127.0.0.1:8080
mkdir box
gocker run -d --name asks $probe -v $HOME/box:/box sample sh -c 'while :; do
  /probe get 203.0.113.7:80 soon | grep -q world && touch /box/reached
  sleep 0.1
done' >/dev/null
kills() {
  before=$(pgrep -x "$program")
  pkill -KILL -x "$1"
  while kill -0 $before 2>/dev/null; do sleep 0.1; done
  for i in 1 2; do
    rm -f box/reached
    until test -e box/reached; do sleep 0.1; done
  done
  inside sample /probe get 203.0.113.7:80
}
say program kills "$program"
say guard kills gocker-uplink
say holder kills gocker-holder
say neighbour inside --network app sample /probe get web:80
say held env BE=probe gocker get 127.0.0.1:8080
say holders pgrep -c -x gocker-holder
pkill -KILL -f '^gocker-(monitor|holder|uplink)'
`
}

// noneLeft waits for the end of what holds and connects a user's namespaces.
func noneLeft(t *testing.T, names ...string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, _ := exec.Command("pgrep", "-l", "-x", strings.Join(names, "|")).Output() // nobody is status 1
		if len(out) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is in the user's namespaces, and these are left:\n%s", out)
		}
	}
}
