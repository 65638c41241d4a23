//go:build linux

package house

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"gocker/step01-pull/shared/testenv"
)

// A shell is a bash in which a reader of a page might type: in the repository's root, with empty default folders.
type shell struct {
	in  io.Writer
	out chan string // lines of stdout and stderr
}

// commandTime is how long one command may take. The first "go run" of a program links it.
const commandTime = 2 * time.Minute

const endMark = "-- end of command --"

// setup makes the default folders empty: they are folders of $1, which testenv.WithFolder removes whatever happens. On cgroup v1 it hides in which cgroup the test runs, so that no page shows it.
// Its network namespace is a router already: else a page's first container would make it one, and say so.
const setup = `unset GOCKER_ROOT GOCKER_RUN GOCKER_TEST_SHELL
echo 1 >/proc/sys/net/ipv4/ip_forward
mkdir "$1/lib" "$1/run"
mount --bind "$1/lib" /var/lib/gocker
mount --bind "$1/run" /var/run/gocker
while IFS=: read -r _ controllers path; do
	tree=/sys/fs/cgroup/$controllers
	if [ -n "$controllers" ] && [ "$path" != / ] && [ -d "$tree$path" ]; then mount --bind "$tree$path" "$tree"; fi
done < /proc/self/cgroup`

func TestMain(m *testing.M) {
	testenv.WithFolder() // pages tell of the host's namespaces
	if folder := os.Getenv(beShell); folder != "" {
		bash, err := exec.LookPath("bash")
		if err == nil {
			err = syscall.Exec(bash, []string{"bash", "-s", folder}, os.Environ())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// beShell is set for this program where it is to become the shell: first it sets up the loopback interface of its namespace.
const beShell = "GOCKER_TEST_SHELL"

// newShell starts a bash with mount and network namespaces of its own: no page meets the networks of another one.
func newShell(t *testing.T) *shell {
	for _, dir := range []string{"/var/lib/gocker", "/var/run/gocker"} {
		if err := os.Mkdir(dir, 0o755); err == nil {
			t.Cleanup(func() { os.Remove(dir) })
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--net", self)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, w, w
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "GOFLAGS=", "TERM=dumb", beShell+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	s := &shell{in: in, out: make(chan string)}
	go func() {
		defer close(s.out)
		for lines := bufio.NewReader(r); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			s.out <- strings.TrimSuffix(line, "\n")
		}
	}()
	t.Cleanup(func() {
		in.Close()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		r.Close()
	})
	if out := s.run(t, setup); len(out) > 0 {
		t.Fatalf("set up the shell: %q", out)
	}
	return s
}

// asUser goes on as an ordinary user, $2, of whom /etc tells in this mount namespace only. To compile all anew would take this user
// minutes, so a go of its own runs programs that root has compiled.
const asUser = `chmod 755 "$1" "${1%/*}"
for name in passwd group subuid subgid; do
	case $name in sub*) line=$2:100000:65536 ;; passwd) line=$2:x:1001:1001::/home/$2:/bin/bash ;; *) line=$2:x:1001: ;; esac
	[ -e /etc/$name ] || touch /etc/$name
	{ echo "$line"; cat /etc/$name; } >"$1/$name" && mount --bind "$1/$name" /etc/$name
done
mkdir -p "$1/home/$2" "$1/bin" /home && chown 1001:1001 "$1/home/$2" && mount --bind "$1/home" /home
if [ -e /dev/net/tun ]; then mknod -m 666 "$1/tun" c 10 200 && mount --bind "$1/tun" /dev/net/tun; fi # as udev makes it
go build -o "$1/bin/" ./step03-layers ./step04-overlay ./step05-namespaces ./step06-cgroups ./final
cat >"$1/bin/go" <<'END'
#!/bin/sh
program=$(basename "$2") && shift 2 && exec "$(dirname "$0")/$program" "$@"
END
chmod 755 "$1/bin/go"
unset XDG_RUNTIME_DIR XDG_DATA_HOME
HOME=/home/$2 USER=$2 PATH=$1/bin:$PATH TMPDIR=/home/$2 exec setpriv --reuid 1001 --regid 1001 --clear-groups bash -s "$1"`

// become has an ordinary user type what follows.
func (s *shell) become(t *testing.T, user string) {
	t.Helper()
	testenv.Needs(t, "setpriv", "newuidmap", "newgidmap")
	fmt.Fprintf(s.in, "set -- \"$1\" %s\n%s\n", user, asUser)
	if out := s.run(t, "true"); len(out) > 0 {
		t.Fatalf("become the user %s: %q", user, out)
	}
}

// run runs a command and returns the lines that it printed. It has no standard input.
func (s *shell) run(t *testing.T, command string) (lines []string) {
	t.Helper()
	fmt.Fprintf(s.in, "{\n%s\n} < /dev/null\nprintf '\\n%%s\\n' '%s'\n", command, endMark)
	timeout := time.After(commandTime)
	for {
		select {
		case line, ok := <-s.out:
			if !ok {
				t.Fatalf("the shell ended at: %s\nafter printing: %q", command, lines)
			}
			if line != endMark {
				lines = append(lines, line)
				continue
			}
			for len(lines) > 0 && lines[len(lines)-1] == "" {
				lines = lines[:len(lines)-1]
			}
			return lines
		case <-timeout:
			t.Fatalf("not ended after %v: %s\nit printed: %q", commandTime, command, lines)
		}
	}
}

// cgroupVersion is "v2" where one tree has all controllers, else "v1".
func cgroupVersion() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "v2"
	}
	return "v1"
}
