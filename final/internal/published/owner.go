//go:build linux

package published

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Taken is the error for a port of the host that somebody has.
type Taken struct {
	Port Port
	By   []Process // those that were found: a user does not see the files of others
}

// A Process that has a port.
type Process struct {
	Pid  int
	Name string // of its program, at most 15 bytes
}

func (t *Taken) Error() string {
	of := "the host"
	if a := t.Port.Host.Addr(); !a.IsUnspecified() {
		of = a.String()
	}
	message := fmt.Sprintf("port %d/%s of %s is taken", t.Port.Host.Port(), t.Port.Protocol, of)
	const most = 3
	for i, by := range t.By {
		switch {
		case by.Pid == os.Getpid():
			return message + " by another port of the same container"
		case i == 0:
			message += fmt.Sprintf(": by %s (pid %d)", by.Name, by.Pid)
		case i < most:
			message += fmt.Sprintf(", %s (pid %d)", by.Name, by.Pid)
		case i == most:
			return message + fmt.Sprintf(" and %d more", len(t.By)-most)
		}
	}
	return message
}

// Is says that it is what bind(2) said.
func (t *Taken) Is(target error) bool { return target == unix.EADDRINUSE }

// find looks for the processes that have the port. It asks nothing that a frozen process would have to answer itself.
func (t *Taken) find() {
	const patience = 2 * time.Second
	sockets := t.Port.sockets()
	if len(sockets) == 0 {
		return
	}
	folders, _ := filepath.Glob("/proc/[0-9]*/fd") // an error is one of the pattern
	for until := time.Now().Add(patience); len(folders) > 0 && time.Now().Before(until); folders = folders[1:] {
		files, err := os.ReadDir(folders[0])
		if err != nil {
			continue // it ended, or is another user's
		}
		for _, file := range files {
			if target, err := os.Readlink(filepath.Join(folders[0], file.Name())); err == nil && sockets[target] {
				process := filepath.Dir(folders[0])
				pid, _ := strconv.Atoi(filepath.Base(process))
				name, _ := os.ReadFile(filepath.Join(process, "comm"))
				t.By = append(t.By, Process{Pid: pid, Name: strings.TrimSpace(string(name))})
				break
			}
		}
	}
}

// sockets are those of the host that are in the way of a port, as links in /proc/PID/fd name them: "socket:[4711]".
func (p Port) sockets() map[string]bool {
	listen, others := map[string]bool{}, map[string]bool{}
	for _, file := range []string{p.Protocol, p.Protocol + "6"} {
		table, err := os.Open("/proc/thread-self/net/" + file)
		if err != nil {
			continue // the kernel has no IPv6, or no table of SCTP in this form
		}
		defer table.Close()
		for lines := bufio.NewScanner(table); lines.Scan(); {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …, see proc_pid_net(5)
			f := strings.Fields(lines.Text())
			if len(f) < 10 || !p.inTheWay(f[1]) {
				continue
			}
			const tcpListen = "0A"
			if f[3] == tcpListen {
				listen["socket:["+f[9]+"]"] = true
			}
			others["socket:["+f[9]+"]"] = true
		}
	}
	if len(listen) > 0 {
		return listen // connections of such a port have it, too, and are not what is in the way
	}
	return others
}

// inTheWay tells whether a socket has the port: "0100007F:1F90" is 127.0.0.1:8080 on a machine with little-endian numbers.
func (p Port) inTheWay(local string) bool {
	address, port, _ := strings.Cut(local, ":")
	if number, err := strconv.ParseUint(port, 16, 16); err != nil || uint16(number) != p.Host.Port() {
		return false
	}
	words, err := hex.DecodeString(address)
	if err != nil {
		return false
	}
	for i := 0; i+4 <= len(words); i += 4 { // each four bytes are printed as a number
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	addr, _ := netip.AddrFromSlice(words)
	host := p.Host.Addr()
	if host.Is4() && addr == netip.IPv6Unspecified() {
		return true // it may be for IPv4, too
	}
	addr = addr.Unmap()
	return addr.Is4() == host.Is4() && (addr == host || addr.IsUnspecified() || host.IsUnspecified())
}
