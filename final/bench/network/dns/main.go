//go:build linux

// Command dns measures how long a name of a network takes, beside aardvark-dns, the name server of podman's networks:
//
//	apt-get install aardvark-dns
//	go run ./final/bench/network/dns [-n 10000] [-names 20]
//
// Both servers know the same names, and are processes of their own in a network namespace that has only lo. The client makes
// a question once, and sends it again and again by one socket. Nothing of Go's is between it and the kernel, so the time is
// that of the server and of the kernel.
//
// In each round both have one turn, and who begins changes, so whatever else the machine does is done to both. The table
// has medians, and the median of the rounds' ratios.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"gocker/final/bench"
	"gocker/final/internal/resolver"
)

const ourPort, aardvarkPort = 5301, 5300

func main() {
	rounds := flag.Int("n", 10000, "how often both have a turn")
	names := flag.Int("names", 20, "how many names the network has")
	aardvark := flag.String("aardvark", "/usr/lib/podman/aardvark-dns", "`file` of aardvark-dns")
	server := flag.String("serve", "", "be the server to measure, at this `address`")
	flag.Parse()
	run := func() error { return compare(*rounds, *names, *aardvark) }
	if *server != "" {
		run = func() error { return serve(*server, *names) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dns:", err)
		os.Exit(1)
	}
}

func name(i int) string        { return fmt.Sprintf("web%d", i) }
func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 83, byte(i >> 8), byte(i)}) }

func serve(at string, names int) error {
	addr, err := netip.ParseAddrPort(at)
	if err != nil {
		return err
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	known := map[string][]netip.Addr{}
	for i := range names {
		known[name(i)] = []netip.Addr{address(i)}
	}
	server := resolver.Server{
		Lookup:   func(name string) ([]netip.Addr, bool) { addrs, ok := known[name]; return addrs, ok },
		Reverse:  func(netip.Addr) []string { return nil },
		Upstream: func() []netip.AddrPort { return nil },
	}
	server.Serve(udp, tcp)
	return nil
}

func compare(rounds, names int, aardvark string) error {
	dir, err := os.MkdirTemp("", "gocker-dns-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	runtime.LockOSThread() // what it starts is in its network namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare the network namespace (this needs root): %w", err)
	}
	if err := bench.Do("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	config := "127.0.0.1\n"
	for i := range names {
		config += fmt.Sprintf("%064x %s  %s\n", i, address(i), name(i))
	}
	if err := os.WriteFile(filepath.Join(dir, "network"), []byte(config), 0o644); err != nil {
		return err
	}
	// aardvark-dns starts another process, and ends when that one serves.
	if err := bench.Do(aardvark, "--config", dir, "--port", strconv.Itoa(aardvarkPort), "run"); err != nil {
		return err
	}
	defer func() {
		if pid, err := os.ReadFile(filepath.Join(dir, "aardvark.pid")); err == nil {
			bench.Do("kill", strings.TrimSpace(string(pid)))
		}
	}()
	ours := exec.Command("/proc/self/exe", "-serve", fmt.Sprintf("127.0.0.1:%d", ourPort), "-names", strconv.Itoa(names))
	ours.Stderr = os.Stderr
	if err := ours.Start(); err != nil {
		return err
	}
	defer ours.Wait()
	defer ours.Process.Kill()
	return measure(rounds, name(names/2), address(names/2))
}

func measure(rounds int, name string, want netip.Addr) error {
	ports := []int{ourPort, aardvarkPort}
	clients := make([]int, len(ports))
	question := dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	query, err := (&dnsmessage.Message{Header: dnsmessage.Header{RecursionDesired: true}, Questions: []dnsmessage.Question{question}}).Pack()
	if err != nil {
		return err
	}
	for i, port := range ports {
		if clients[i], err = connect(port); err != nil {
			return err
		}
		for range 500 { // the first ones meet no server, or are slow
			if err = ask(clients[i], query, want); err != nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if err != nil {
			return fmt.Errorf("ask port %d: %w", port, err)
		}
	}
	times := make([][]float64, len(ports)) // in µs
	for round := range rounds {
		for turn := range ports {
			i := (round + turn) % len(ports)
			query[0], query[1] = byte(round>>8), byte(round)
			begin := time.Now()
			if err := ask(clients[i], query, want); err != nil {
				return fmt.Errorf("ask port %d: %w", ports[i], err)
			}
			times[i] = append(times[i], float64(time.Since(begin).Nanoseconds())/1000)
		}
	}
	fmt.Printf("%-14s %8s  ours / theirs\n", "", "µs")
	fmt.Printf("%-14s %8.1f\n", "gocker", bench.Median(times[0]))
	fmt.Printf("%-14s %8.1f  %.2f\n", "aardvark-dns", bench.Median(times[1]), bench.MedianRatio(times[0], times[1]))
	return nil
}

// connect makes a socket that waits in the kernel for an answer.
func connect(port int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port})
	}
	return fd, err
}

func ask(fd int, query []byte, want netip.Addr) error {
	if _, err := unix.Write(fd, query); err != nil {
		return err
	}
	var reply [512]byte
	n, err := unix.Read(fd, reply[:])
	for err == unix.EINTR { // by a signal of Go's own: it has stopped a goroutine
		n, err = unix.Read(fd, reply[:])
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(reply[:2], query[:2]) || !bytes.HasSuffix(reply[:n], want.AsSlice()) {
		return fmt.Errorf("the answer is %q", reply[:n])
	}
	return nil
}
