//go:build linux

package terminal_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

func TestMain(m *testing.M) { os.Exit(testroot.Run(m)) }

func sh(f *overlay.FS, script string) *specs.Spec {
	return namespaces.Spec(f.Mnt(), "testhost", []string{"sh", "-c", script})
}

func create(spec *specs.Spec, stdio terminal.Stdio) (*namespaces.Process, error) {
	return namespaces.Create(spec, terminal.New(spec.Process, stdio))
}

// start runs a container's first process up to its command.
func start(t *testing.T, script string, stdio terminal.Stdio) *namespaces.Process {
	t.Helper()
	p, err := create(sh(testroot.Mount(t), script), stdio)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Abort)
	return p
}

func wait(t *testing.T, p *namespaces.Process) int {
	t.Helper()
	status, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// hostFile is a file of the host that a caller has open.
func hostFile(t *testing.T, content string, flags int) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func content(t *testing.T, f *os.File) string {
	t.Helper()
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// ends are the two ends of a pipe, or of another pair of files.
func ends(t *testing.T, pair [2]int, err error) (ours, theirs *os.File) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func pipe(t *testing.T, flags int) (reader, writer *os.File) {
	var pair [2]int
	err := unix.Pipe2(pair[:], unix.O_CLOEXEC|flags)
	return ends(t, pair, err)
}

func socket(t *testing.T) (ours, theirs *os.File) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return ends(t, pair, err)
}

// ptyPair is a pseudo-terminal that passes on what is written as it is.
func ptyPair(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	settings, err := unix.IoctlGetTermios(int(peer), unix.TCGETS)
	if err == nil {
		settings.Oflag &^= unix.OPOST
		settings.Lflag &^= unix.ECHO
		err = unix.IoctlSetTermios(int(peer), unix.TCSETS, settings)
	}
	if err != nil {
		t.Fatal(err)
	}
	return master, os.NewFile(peer, "terminal")
}

// inode names a file: by its device and number.
func inode(t *testing.T, f *os.File) string {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

func TestAContainerHasNoFileOfItsCaller(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, tty := ptyPair(t)
	in, out := pipe(t, 0)
	_, sock := socket(t)
	for _, tt := range []struct {
		name  string
		stdio terminal.Stdio
		files []*os.File
	}{
		{"regular files", terminal.Stdio{Stdin: hostFile(t, "x", os.O_RDONLY), Stdout: hostFile(t, "", os.O_WRONLY), Stderr: hostFile(t, "", os.O_WRONLY|os.O_APPEND)}, nil},
		{"a terminal", terminal.Stdio{Stdin: tty, Stdout: tty, Stderr: tty}, nil},
		{"pipes", terminal.Stdio{Stdin: in, Stdout: out, Stderr: out}, nil},
		{"a socket", terminal.Stdio{Stdin: sock, Stdout: sock, Stderr: sock}, nil},
		{"the host's null device", terminal.Stdio{Stdin: null, Stdout: null, Stderr: null}, nil},
		{"nothing", terminal.Stdio{}, []*os.File{null, null, null}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "nothing" {
				testenv.NeedMachinesRoot(t, "its /dev/null is the host's, bound")
			}
			p := start(t, "read x; exec sleep 1000", tt.stdio)
			if tt.files == nil {
				tt.files = []*os.File{tt.stdio.Stdin.(*os.File), tt.stdio.Stdout.(*os.File), tt.stdio.Stderr.(*os.File)}
			}
			for fd, callers := range tt.files {
				f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", p.Pid, fd), unix.O_PATH, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if inode(t, f) == inode(t, callers) {
					t.Errorf("descriptor %d is its caller's: %s", fd, inode(t, f))
				}
			}
		})
	}
}

func TestAContainerCannotOpenAgainWhatItReadsOrWrites(t *testing.T) {
	const attack = ": >/proc/1/fd/0; : >/proc/1/fd/1; echo evil >/proc/1/fd/0; echo evil >/proc/1/fd/1"
	for name, attacker := range map[string]func(stdio terminal.Stdio){
		"the first process": func(stdio terminal.Stdio) { wait(t, start(t, attack, stdio)) },
		"one beside it": func(stdio terminal.Stdio) {
			p := start(t, "exec sleep 1000", stdio)
			spec := namespaces.Spec("/", "x", []string{"sh", "-c", attack})
			more, err := namespaces.Join(p.Pid, spec.Process, terminal.New(spec.Process, terminal.Stdio{}))
			if err != nil {
				t.Fatal(err)
			}
			if status := wait(t, more); status != 0 {
				t.Errorf("Wait = %d", status)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in, out := hostFile(t, "to be read", os.O_RDONLY), hostFile(t, "from before\n", os.O_WRONLY|os.O_APPEND)
			attacker(terminal.Stdio{Stdin: in, Stdout: out})
			if got := content(t, in); got != "to be read" {
				t.Errorf("the file that it reads is now %q", got)
			}
			if got := content(t, out); !strings.HasPrefix(got, "from before\n") {
				t.Errorf("the file that it writes to is now %q", got)
			}
		})
	}
}

func TestAFolderIsNoInput(t *testing.T) {
	folder, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	_, err = create(sh(testroot.Mount(t), "ls /proc/self/fd/0/../.."), terminal.Stdio{Stdin: folder, Stdout: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "standard input is a folder") {
		t.Errorf("Create with a folder as input = %v", err)
	}
}

// megabyte is more than a pipe has room for.
var megabyte = bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)

func TestAllInputArrives(t *testing.T) {
	write := func(into *os.File) {
		into.Write(megabyte)
		into.Close()
	}
	reader, writer := pipe(t, 0)
	go write(writer)
	nonblocking, fast := pipe(t, unix.O_NONBLOCK)
	go write(fast)
	theirs, ours := socket(t)
	go write(ours)
	for name, in := range map[string]io.Reader{
		"a file": hostFile(t, string(megabyte), os.O_RDONLY), "a pipe": reader, "a pipe that does not block": nonblocking,
		"a socket": theirs, "no file": bytes.NewReader(megabyte),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			wait(t, start(t, "exec cat", terminal.Stdio{Stdin: in, Stdout: &out}))
			if !bytes.Equal(out.Bytes(), megabyte) {
				t.Errorf("%d bytes came through, want %d, the same", out.Len(), len(megabyte))
			}
		})
	}
}

func TestAllOutputArrives(t *testing.T) {
	file, appended := hostFile(t, "", os.O_WRONLY), hostFile(t, "", os.O_WRONLY|os.O_APPEND)
	reader, writer := pipe(t, 0)
	nonblocking, fast := pipe(t, unix.O_NONBLOCK)
	ours, theirs := socket(t)
	master, slave := ptyPair(t)
	for _, tt := range []struct {
		name string
		out  *os.File
		from *os.File
	}{
		{"a file", file, nil}, {"a file that is appended to", appended, nil}, {"a pipe", writer, reader},
		{"a pipe that does not block", fast, nonblocking}, {"a socket", theirs, ours}, {"a terminal", slave, master},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string)
			go func() { // whoever reads begins when all is full
				if tt.from == nil {
					got <- ""
					return
				}
				all := make([]byte, len(megabyte))
				n, _ := io.ReadFull(tt.from, all)
				got <- string(all[:n])
			}()
			wait(t, start(t, "exec cat", terminal.Stdio{Stdin: bytes.NewReader(megabyte), Stdout: tt.out}))
			tt.out.Sync()
			all := <-got
			if tt.from == nil {
				all = content(t, tt.out)
			}
			if all != string(megabyte) {
				t.Errorf("%d bytes came through, want %d, the same", len(all), len(megabyte))
			}
		})
	}
}

func TestOutputAndErrorsIntoOneFileStayInOrder(t *testing.T) {
	out := hostFile(t, "", os.O_WRONLY)
	fd, err := unix.FcntlInt(out.Fd(), unix.F_DUPFD_CLOEXEC, 0) // as 2>&1 does
	if err != nil {
		t.Fatal(err)
	}
	twin := os.NewFile(uintptr(fd), "twin")
	defer twin.Close()
	wait(t, start(t, "for i in $(seq 200); do echo $i; echo $i >&2; done", terminal.Stdio{Stdout: out, Stderr: twin}))
	var want strings.Builder
	for i := 1; i <= 200; i++ {
		fmt.Fprintf(&want, "%d\n%[1]d\n", i)
	}
	if got := content(t, out); got != want.String() {
		t.Errorf("it wrote\n%s", got)
	}
}

func TestTheEndWaitsForAllOutputAndForNobodyElse(t *testing.T) {
	first := start(t, "exec sleep 1000", terminal.Stdio{})
	reader, writer := pipe(t, 0) // input that never ends
	defer writer.Close()
	for name, script := range map[string]string{
		"who lives on is silent": "sleep 1000 & head -c 1048576 /dev/zero; echo end",
		"who lives on writes on": "yes >&2 & head -c 1048576 /dev/zero; echo end",
	} {
		t.Run(name, func(t *testing.T) {
			spec := sh(testroot.Mount(t), script)
			var out, err bytes.Buffer
			more, joinErr := namespaces.Join(first.Pid, spec.Process, terminal.New(spec.Process, terminal.Stdio{Stdin: reader, Stdout: &out, Stderr: &err}))
			if joinErr != nil {
				t.Fatal(joinErr)
			}
			if status := wait(t, more); status != 0 {
				t.Fatalf("Wait = %d", status)
			}
			if want := 1<<20 + len("end\n"); out.Len() != want {
				t.Errorf("%d bytes came through, want %d", out.Len(), want)
			}
		})
	}
}

func TestWhatAProcessDoesNotReadIsLeftToOthers(t *testing.T) {
	reader, writer := pipe(t, 0)
	wait(t, start(t, "exec true", terminal.Stdio{Stdin: reader}))
	io.WriteString(writer, "for the next one\n")
	writer.Close()
	if got, err := io.ReadAll(reader); string(got) != "for the next one\n" || err != nil {
		t.Errorf("there is %q (%v) to be read", got, err)
	}
}

func TestAProcessNoticesThatNobodyReadsItsOutput(t *testing.T) {
	reader, writer := pipe(t, 0)
	reader.Close()
	if status := wait(t, start(t, "yes; echo $? >&2", terminal.Stdio{Stdout: writer})); status != 0 {
		t.Errorf("status %d", status)
	}
}

func TestTerminalIsTheContainersOwn(t *testing.T) {
	spec := sh(testroot.Mount(t), "tty; stty size; test -t 0 && test -t 2 && echo all; echo console > /dev/console")
	spec.Process.Terminal = true
	spec.Process.ConsoleSize = &specs.Box{Width: 91, Height: 37}
	var out bytes.Buffer
	streams := terminal.New(spec.Process, terminal.Stdio{Stdout: &out})
	p, err := namespaces.Create(spec, streams)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := streams.Run(p); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "/dev/pts/0\r\n37 91\r\nall\r\nconsole\r\n"; got != want {
		t.Errorf("terminal had %q, want %q", got, want)
	}
}

func TestLongOutputArrivesWhole(t *testing.T) {
	const n = 20_000_000
	var out bytes.Buffer
	p, err := create(sh(testroot.Mount(t), fmt.Sprintf("yes | head -c %d", n)), terminal.Stdio{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(); err != nil || out.Len() != n {
		t.Errorf("got %d bytes, %v, want %d", out.Len(), err, n)
	}
}
