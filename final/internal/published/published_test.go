//go:build linux

package published_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/final/internal/published"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/testenv"
)

// TestMain runs the tests in a network namespace that stands for the host: the machine's own network stays as it is.
func TestMain(m *testing.M) {
	const isHost = "GOCKER_TEST_HOST"
	if os.Geteuid() != 0 { // the tests are skipped
		os.Exit(m.Run())
	}
	if os.Getenv(isHost) != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "lo:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), isHost+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "tests in a network namespace of their own:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// container is the address that stands for one's in tests that need no rules.
const container = "127.83.0.2"

// port is one of "127.0.0.1:8080/tcp".
func port(t testing.TB, host string, to net.Addr) published.Port {
	t.Helper()
	testenv.NeedRoot(t)
	address, protocol, _ := strings.Cut(host, "/")
	p := published.Port{Host: netip.MustParseAddrPort(address), Protocol: protocol, To: netip.MustParseAddrPort(container + ":9")}
	if to != nil {
		p.To = netip.MustParseAddrPort(to.String())
	}
	return p
}

func listen(t testing.TB, groups ...[]published.Port) *published.Listeners {
	t.Helper()
	l, err := published.Listen(groups...)
	if err != nil {
		t.Fatalf("Listen(%v) = %v", groups, err)
	}
	l.Serve()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return l
}

// tcpServer is a container's: it calls serve for each connection.
func tcpServer(t testing.TB, address string, serve func(*net.TCPConn)) net.Addr {
	t.Helper()
	testenv.NeedRoot(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c.(*net.TCPConn))
		}
	}()
	return l.Addr()
}

// udpServer answers each datagram with who sent it and what it is.
func udpServer(t testing.TB, address string) net.Addr {
	t.Helper()
	testenv.NeedRoot(t)
	s, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := s.ReadFrom(buffer)
			if err != nil {
				return
			}
			s.WriteTo(fmt.Appendf(nil, "%s %s", from, buffer[:n]), from)
		}
	}()
	return s.LocalAddr()
}

// dial is a client with patience for ten seconds.
func dial(t testing.TB, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAConnectionReachesTheContainerAndEndsInHalves(t *testing.T) {
	// It answers when it has read all: so the client's end must have reached it, and the other direction be open still.
	server := tcpServer(t, container+":0", func(c *net.TCPConn) {
		question, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%d bytes", len(question))
		c.Close()
	})
	for _, host := range []string{"0.0.0.0:8080/tcp", "127.0.0.5:8080/tcp", "[::]:8080/tcp", "[::1]:8080/tcp"} {
		t.Run(host, func(t *testing.T) {
			p := port(t, host, server)
			listen(t, []published.Port{p})
			c := dial(t, "tcp", p.Host.String())
			question := make([]byte, 3<<20)
			if _, err := c.Write(question); err != nil {
				t.Fatal(err)
			}
			c.(*net.TCPConn).CloseWrite()
			if answer, err := io.ReadAll(c); err != nil || string(answer) != "3145728 bytes" {
				t.Errorf("answer = %q, %v; want 3145728 bytes", answer, err)
			}
		})
	}
}

func TestAConnectionThatTheContainerRefusesOrBreaksOffIsReset(t *testing.T) {
	breaks := tcpServer(t, container+":0", func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0)
		c.Close()
	})
	for name, to := range map[string]net.Addr{"refuses": nil, "breaks off": breaks} {
		t.Run(name, func(t *testing.T) {
			listen(t, []published.Port{port(t, "127.0.0.1:8080/tcp", to)})
			c, err := net.Dial("tcp", "127.0.0.1:8080")
			if err == nil {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				c.Write([]byte("x"))
				_, err = io.ReadAll(c)
			}
			if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the client sees %v, want %v", err, unix.ECONNRESET)
			}
		})
	}
}

func TestAConnectionWaitsForServeAndEndsWithClose(t *testing.T) {
	server := tcpServer(t, container+":0", func(c *net.TCPConn) { io.Copy(c, c) })
	p := port(t, "127.0.0.1:8080/tcp", server)
	l, err := published.Listen([]published.Port{p})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, "tcp", p.Host.String())
	fmt.Fprint(c, "x")
	l.Serve()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("Read after Serve = %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read after Close = %d, %v; want the connection's end", n, err)
	}
	listen(t, []published.Port{p}) // at once, though a connection was open
}

func TestADatagramIsAnsweredFromTheAddressThatItWasSentTo(t *testing.T) {
	server := udpServer(t, container+":0")
	listen(t, []published.Port{port(t, "0.0.0.0:5353/udp", server), port(t, "[::]:5353/udp", server)})
	for _, address := range []string{"127.0.0.1:5353", "127.0.0.5:5353", "[::1]:5353"} {
		t.Run(address, func(t *testing.T) {
			c := dial(t, "udp", address) // connected: it gets nothing from elsewhere
			var flow string
			for _, question := range []string{"one", "", strings.Repeat("x", 60000)} {
				fmt.Fprint(c, question)
				answer := make([]byte, 1<<16)
				n, err := c.Read(answer)
				from, got, _ := strings.Cut(string(answer[:n]), " ")
				if err != nil || got != question {
					t.Fatalf("answer = %.20q, %v; want %.20q", got, err, question)
				}
				if flow != "" && from != flow {
					t.Errorf("the container sees %s, and then %s: want one sender for one client", flow, from)
				}
				flow = from
			}
		})
	}
}

func TestTwoClientsOfUDPGetTheirOwnAnswers(t *testing.T) {
	listen(t, []published.Port{port(t, "127.0.0.1:5353/udp", udpServer(t, container+":0"))})
	seen := map[string]bool{}
	for i := range 10 {
		c := dial(t, "udp", "127.0.0.1:5353")
		fmt.Fprint(c, i)
		answer := make([]byte, 100)
		n, err := c.Read(answer)
		from, got, _ := strings.Cut(string(answer[:n]), " ")
		if err != nil || got != strconv.Itoa(i) || seen[from] {
			t.Errorf("answer = %q, %v: want %d, and a sender of its own", answer[:n], err, i)
		}
		seen[from] = true
	}
}

func TestANewClientOfUDPTakesThePlaceOfTheOldestOne(t *testing.T) {
	const files, clients = 400, 300
	p := port(t, "127.0.0.1:5353/udp", udpServer(t, container+":0"))
	limit(t, files)
	listen(t, []published.Port{p}) // 143 files are enough for 35 clients
	for i := range clients {
		c := dial(t, "udp", "127.0.0.1:5353")
		fmt.Fprint(c, i)
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		c.Close()
	}
	if open, err := os.ReadDir("/proc/self/fd"); err != nil || len(open) > 100 {
		t.Errorf("%d files are open, %v; want less than 100", len(open), err)
	}
}

func TestAPortOfNoNumberIsOneForBothKindsOfAddress(t *testing.T) {
	for _, protocol := range []string{"tcp", "udp"} {
		l := listen(t, []published.Port{port(t, "0.0.0.0:0/"+protocol, nil), port(t, "[::]:0/"+protocol, nil)})
		got := l.Ports()
		if len(got) != 2 || got[0].Host.Port() == 0 || got[0].Host.Port() != got[1].Host.Port() {
			t.Errorf("Ports = %v, want two of one number", got)
		}
	}
}

func TestARangeGivesTheFirstThatIsFreeForAll(t *testing.T) {
	listen(t, []published.Port{port(t, "127.0.0.1:8000/tcp", nil)}, []published.Port{port(t, "[::1]:8001/tcp", nil)})
	group := []published.Port{port(t, "0.0.0.0:8000/tcp", nil), port(t, "[::]:8000/tcp", nil)}
	group[0].Last = 8002
	for _, p := range listen(t, group).Ports() {
		if p.Host.Port() != 8002 || p.Last != 0 {
			t.Errorf("Ports has %+v, want 8002", p)
		}
	}
	_, err := published.Listen(group)
	if want := "none of 3 ports of the host was free: port 8002/tcp of the host is taken"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Listen = %v, want %s", err, want)
	}
}

func TestATakenPortIsAnErrorThatNamesWhoHasIt(t *testing.T) {
	for _, tt := range []struct{ has, wants, message string }{
		{"0.0.0.0:8080/tcp", "0.0.0.0:8080/tcp", "port 8080/tcp of the host is taken"},
		{"127.0.0.1:8080/tcp", "0.0.0.0:8080/tcp", "port 8080/tcp of the host is taken"},
		{"0.0.0.0:8080/tcp", "127.0.0.1:8080/tcp", "port 8080/tcp of 127.0.0.1 is taken"},
		{"[::]:8080/tcp", "0.0.0.0:8080/tcp", "port 8080/tcp of the host is taken"}, // for IPv4, too
		{"[::]:8080/tcp", "[::]:8080/tcp", "port 8080/tcp of the host is taken"},
		{"[::1]:8080/tcp", "[::1]:8080/tcp", "port 8080/tcp of ::1 is taken"},
		{"127.0.0.1:8080/udp", "0.0.0.0:8080/udp", "port 8080/udp of the host is taken"},
		{"[::]:8080/udp", "[::]:8080/udp", "port 8080/udp of the host is taken"},
	} {
		t.Run(tt.has+" "+tt.wants, func(t *testing.T) {
			wants := port(t, tt.wants, nil)
			pid := other(t, tt.has)
			_, err := published.Listen([]published.Port{port(t, "0.0.0.0:8079/tcp", nil)}, []published.Port{wants})
			if want := fmt.Sprintf("%s: by taker (pid %d)", tt.message, pid); err == nil || err.Error() != want {
				t.Errorf("Listen = %v, want %s", err, want)
			}
			taken, ok := errors.AsType[*published.Taken](err)
			if !ok || taken.Port.Host != wants.Host || len(taken.By) != 1 || taken.By[0].Pid != pid || !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("Listen = %#v, want a Taken of %v", err, wants)
			}
			if got := advice.Of(err); !strings.Contains(got, "ss -l") {
				t.Errorf("advice = %q, want ss", got)
			}
			listen(t, []published.Port{port(t, "0.0.0.0:8079/tcp", nil)}) // was given back
		})
	}
}

// other is a process that has a port, as "0.0.0.0:8080/tcp". [::] is for IPv4, too.
func other(t *testing.T, port string) (pid int) {
	address, protocol, _ := strings.Cut(port, "/")
	control := func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0) })
	}
	var file *os.File
	var err error
	config := net.ListenConfig{Control: control}
	if protocol == "tcp" {
		l, e := config.Listen(t.Context(), protocol, address)
		if e != nil {
			t.Fatal(e)
		}
		defer l.Close()
		file, err = l.(*net.TCPListener).File()
	} else {
		l, e := config.ListenPacket(t.Context(), protocol, address)
		if e != nil {
			t.Fatal(e)
		}
		defer l.Close()
		file, err = l.(*net.UDPConn).File()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestHelperThatWaits$")
	cmd.Env = append(os.Environ(), "GOCKER_TEST_WAITS=1")
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	io.ReadFull(stdout, make([]byte, 1)) // it runs, and has its name
	return cmd.Process.Pid
}

func TestHelperThatWaits(t *testing.T) {
	if os.Getenv("GOCKER_TEST_WAITS") == "" {
		t.Skip("it is a process that other tests start")
	}
	os.WriteFile("/proc/self/comm", []byte("taker"), 0)
	fmt.Print("x")
	io.ReadAll(os.Stdin)
}

func TestAPortThatIsPublishedTwiceIsTheContainersOwnFault(t *testing.T) {
	_, err := published.Listen([]published.Port{port(t, "0.0.0.0:8080/tcp", nil)}, []published.Port{port(t, "127.0.0.1:8080/tcp", nil)})
	if want := "port 8080/tcp of 127.0.0.1 is taken by another port of the same container"; err == nil || err.Error() != want {
		t.Errorf("Listen = %v, want %s", err, want)
	}
}

func TestWhatTheHostCannotDoIsAnErrorThatSaysWhy(t *testing.T) {
	for _, tt := range []struct {
		port string
		want error
		says string
	}{
		{"192.0.2.1:8080/tcp", unix.EADDRNOTAVAIL, "this host has no address 192.0.2.1"},
		{"[2001:db8::1]:8080/udp", unix.EADDRNOTAVAIL, "this host has no address 2001:db8::1"},
		{"0.0.0.0:8080/icmp", nil, `protocol "icmp" is not tcp, udp or sctp`},
	} {
		_, err := published.Listen([]published.Port{port(t, tt.port, nil)})
		if err == nil || !strings.Contains(err.Error(), tt.says) || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("Listen(%s) = %v, want %q", tt.port, err, tt.says)
		}
	}
}

func TestAUserIsToldWhichPortsAreForRoot(t *testing.T) {
	p := port(t, "0.0.0.0:80/tcp", nil)
	asUser(t, func() {
		_, err := published.Listen([]published.Port{p})
		if !errors.Is(err, unix.EACCES) || !strings.Contains(advice.Of(err), "net.ipv4.ip_unprivileged_port_start=80") {
			t.Errorf("Listen = %v, advice %q; want %v and the sysctl", err, advice.Of(err), unix.EACCES)
		}
	})
}

// asUser takes root's capabilities from the thread that runs f.
func asUser(t *testing.T, f func()) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before, none [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		t.Fatal(err)
	}
	none = before
	none[0].Effective, none[1].Effective = 0, 0
	onThread(func() {
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Error(err)
			return
		}
		f()
	})
}

func TestWithoutIPv6OnlyItsOwnAddressesAreAnError(t *testing.T) {
	all, named := port(t, "[::]:8080/tcp", nil), port(t, "[::1]:8080/tcp", nil)
	v4 := port(t, "0.0.0.0:8080/tcp", nil)
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil { // where lo is down, and so has no address
			t.Error(err)
			return
		}
		l, err := published.Listen([]published.Port{v4, all}, []published.Port{all})
		if err != nil {
			t.Errorf("Listen = %v", err)
			return
		}
		if got := l.Ports(); len(got) != 1 || got[0] != v4 {
			t.Errorf("Ports = %v, want %v", got, v4)
		}
		l.Close()
		if _, err := published.Listen([]published.Port{named}); !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("Listen(%v) = %v, want %v", named, err, unix.EADDRNOTAVAIL)
		}
	})
}

func TestSCTPIsReservedIfTheKernelHasIt(t *testing.T) {
	p := port(t, "0.0.0.0:8080/sctp", nil)
	l := listen(t, []published.Port{p})
	if got := l.Ports(); len(got) != 1 || got[0] != p {
		t.Errorf("Ports = %v, want %v", got, p)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
	if err != nil {
		t.Skip("the kernel does not have it:", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 8080}); err != unix.EADDRINUSE {
		t.Errorf("bind = %v, want %v", err, unix.EADDRINUSE)
	}
}

func limit(t testing.TB, files uint64) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
}

func many(t testing.TB, n int, to net.Addr) (groups [][]published.Port) {
	v4, v6 := port(t, "0.0.0.0:1/tcp", to), port(t, "[::]:1/tcp", to)
	for i := range n {
		v4.Host = netip.AddrPortFrom(v4.Host.Addr(), uint16(20000+i))
		v6.Host = netip.AddrPortFrom(v6.Host.Addr(), uint16(20000+i))
		groups = append(groups, []published.Port{v4, v6})
	}
	return groups
}

func TestTooManyPortsAreAnErrorThatNamesTheLimit(t *testing.T) {
	groups := many(t, 200, nil)
	limit(t, 400)
	_, err := published.Listen(groups...)
	if want := "publish the ports 20000-20199: they need 400 sockets, and a process may have 400 files open"; err == nil || err.Error() != want {
		t.Errorf("Listen = %v, want %s", err, want)
	}
	_, command, _ := strings.Cut(advice.Of(err), "ulimit -n ")
	var enough uint64
	if fmt.Sscan(command, &enough); enough <= 400 {
		t.Fatalf("advice = %q, want ulimit -n and a number", advice.Of(err))
	}
	limit(t, enough)
	l, err := published.Listen(groups...)
	if err != nil {
		t.Fatalf("Listen with what it says = %v", err)
	}
	l.Close()
}

func TestWithoutFreeFilesNothingIsPublished(t *testing.T) {
	p := port(t, "127.0.0.1:8080/tcp", nil)
	for left := range 4 { // each time another of the files that are needed is too many
		var files []*os.File
		for {
			f, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
			if f.Fd() > 100 {
				break
			}
		}
		limit(t, uint64(files[len(files)-1].Fd())+1+uint64(left))
		l, err := published.Listen([]published.Port{p})
		for _, f := range files {
			f.Close()
		}
		if left < 3 && (!errors.Is(err, unix.EMFILE) || !strings.Contains(advice.Of(err), "ulimit -n")) {
			t.Errorf("%d files left: Listen = %v, advice %q; want %v and ulimit", left, err, advice.Of(err), unix.EMFILE)
		}
		if err == nil {
			l.Close()
		}
	}
}

func TestWithoutFreeFilesAConnectionWaitsForAnother(t *testing.T) {
	const files, clients = 400, 60
	server := tcpServer(t, container+":0", func(c *net.TCPConn) { io.Copy(c, c); c.Close() })
	p := port(t, "127.0.0.1:8080/tcp", server)
	limit(t, files)
	listen(t, []published.Port{p}) // 143 files are enough for 17 connections
	var conns []net.Conn
	for range clients {
		conns = append(conns, dial(t, "tcp", "127.0.0.1:8080"))
	}
	for i, c := range conns {
		fmt.Fprint(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		c.Close()
	}
}

func TestThousandsOfPortsAreListenedToAtOnce(t *testing.T) {
	server := tcpServer(t, container+":0", func(c *net.TCPConn) { io.Copy(c, c); c.Close() })
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := int(min(20000, files.Cur/2-500))
	groups := many(t, n, server)
	start := time.Now()
	l := listen(t, groups...)
	took := time.Since(start)
	t.Logf("Listen of %d ports of two sockets: %v", n, took)
	if took > 10*time.Second {
		t.Errorf("Listen of %d ports took %v, want less than a second on an idle machine", n, took)
	}
	for _, address := range []string{"127.0.0.1:20000", fmt.Sprintf("[::1]:%d", 20000+n-1)} {
		c := dial(t, "tcp", address)
		fmt.Fprint(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	start = time.Now()
	if err := l.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	t.Logf("Close: %v", time.Since(start))
}

// BenchmarkTCP compares a connection to the container with one by way of the port of the host.
func BenchmarkTCP(b *testing.B) {
	server := tcpServer(b, container+":0", func(c *net.TCPConn) { io.Copy(io.Discard, c); c.Close() })
	p := port(b, "127.0.0.1:8080/tcp", server)
	listen(b, []published.Port{p})
	for name, address := range map[string]string{"direct": server.String(), "published": p.Host.String()} {
		b.Run(name, func(b *testing.B) {
			piece := make([]byte, 1<<20)
			c := dial(b, "tcp", address)
			c.SetDeadline(time.Time{})
			b.SetBytes(int64(len(piece)))
			for b.Loop() {
				if _, err := c.Write(piece); err != nil {
					b.Fatal(err)
				}
			}
			c.(*net.TCPConn).CloseWrite()
			io.ReadAll(c) // its end: the container has read all
		})
	}
}

// BenchmarkUDP is a question and its answer.
func BenchmarkUDP(b *testing.B) {
	server := udpServer(b, container+":0")
	p := port(b, "127.0.0.1:5353/udp", server)
	listen(b, []published.Port{p})
	for name, address := range map[string]string{"direct": server.String(), "published": p.Host.String()} {
		b.Run(name, func(b *testing.B) {
			c := dial(b, "udp", address)
			c.SetDeadline(time.Time{})
			for b.Loop() {
				c.Write([]byte("x"))
				if _, err := c.Read(make([]byte, 100)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
