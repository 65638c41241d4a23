//go:build linux

package cli_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/check"
)

// received are the next n packets.
func received(socket net.PacketConn, n int) (all []string, err error) {
	socket.SetReadDeadline(time.Now().Add(time.Minute))
	for range n {
		packet := make([]byte, 1<<16)
		n, _, err := socket.ReadFrom(packet)
		if err != nil {
			return all, err
		}
		all = append(all, string(packet[:n]))
	}
	return all, nil
}

// prints are a container's lines.
var prints = []string{"sample", "sh", "-c", "echo out; echo err >&2"}

func TestLinesGoToSyslog(t *testing.T) {
	testenv.NeedRoot(t)
	d := emptyDirs(t)
	listen := func(network, address string) net.PacketConn {
		socket, err := net.ListenPacket(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.Close() })
		return socket
	}
	path := filepath.Join(t.TempDir(), "log")
	udp, local := listen("udp", "127.0.0.1:0"), listen("unixgram", path)
	for name, tt := range map[string]struct {
		socket   net.PacketConn
		flags    []string
		out, err string // what their lines look like
	}{
		"by UDP, in the foreground":       {udp, []string{"--rm", "--log-opt", "syslog-address=udp://" + udp.LocalAddr().String()}, `^<30>.* [0-9a-f]{12}\[\d+\]: out$`, `^<27>.* err$`},
		"by a socket, in the background":  {local, []string{"-d", "--name", "kept", "--log-opt", "syslog-address=unixgram://" + path}, `^<30>.* out$`, `^<27>.* err$`},
		"of another facility, and called": {udp, []string{"--rm", "--log-opt", "syslog-address=udp://" + udp.LocalAddr().String(), "--log-opt", "syslog-facility=local1", "--log-opt", "tag={{.ImageName}}/x"}, `^<142>.* sample:latest/x\[\d+\]: out$`, `^<139>.* err$`},
	} {
		mustGocker(t, d, append(append([]string{"run", "--log-driver", "syslog"}, tt.flags...), prints...)...)
		got, err := received(tt.socket, 2)
		if err != nil {
			t.Fatal(name, err)
		}
		both := strings.Join(got, "")
		for _, want := range []string{tt.out, tt.err} {
			if !regexp.MustCompile("(?m)" + want).MatchString(both) {
				t.Errorf("%s: syslog got %q, want %s", name, got, want)
			}
		}
	}
	defer mustGocker(t, d, "rm", "kept")
	mustGocker(t, d, "wait", "kept")
	if got := mustGocker(t, d, "logs", "kept"); !strings.Contains(got, "out\n") || !strings.Contains(got, "err\n") {
		t.Errorf("logs = %q, want the same lines", got)
	}
}

func TestLinesGoToTheJournal(t *testing.T) {
	testenv.NeedRoot(t)
	d := emptyDirs(t)
	if output, err := gocker(t, d, "run", "--rm", "--log-driver", "journald", "sample", "true"); !strings.Contains(output, "there is no journal") {
		t.Skipf("this machine has a journal of its own: %q, %v", output, err)
	}
	err := check.InOwnMounts(func() error {
		const folder = "/run/systemd/journal"
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		socket, err := net.ListenPacket("unixgram", folder+"/socket")
		if err != nil {
			return err
		}
		defer socket.Close()
		args := append([]string{"run", "--rm", "--name", "told", "--log-driver", "journald", "-l", "a.team=blue", "--log-opt", "labels=a.team", "--log-opt", "tag={{.Name}}!"}, prints...)
		if output, err := gocker(t, d, args...); err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		got, err := received(socket, 2)
		if err != nil {
			return err
		}
		both := "\n" + strings.Join(got, "\n")
		for _, want := range []string{"MESSAGE=out", "PRIORITY=6", "MESSAGE=err", "PRIORITY=3", "CONTAINER_NAME=told", "IMAGE_NAME=sample:latest", "SYSLOG_IDENTIFIER=told!", "CONTAINER_TAG=told!", "A_TEAM=blue"} {
			if !strings.Contains(both, "\n"+want+"\n") {
				t.Errorf("the journal got %q, want %s", both, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
