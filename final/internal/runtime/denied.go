//go:build linux

package runtime

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/seccomp"
	"gocker/step05-namespaces/birth"
)

// A process that a filter says "no" to learns an error number, and nobody else learns anything. A filter can also say "ask": then the
// kernel lets the process wait, and asks whoever holds the filter's listener, a file that came into being when the filter was
// loaded. Here the answer is the same "no", but the question told which call it was, and whose. What the filter allows is
// not asked about, and no slower. If nobody holds the listener any more, the answer is ENOSYS: never "yes". See
// seccomp_unotify(2).

// A Denial is a system call that the seccomp filter denied.
type Denial struct {
	Call    string // its name, or, if it is too new for that, its number
	First   uint64 // its first argument: for clone(2), unshare(2) or socket(2) that says the most
	Errno   string // what the process was told, "EPERM"
	Process string // the name of the process, or of its thread, as ps(1) shows it
	Pid     int    // as the container counts
	Times   int    // this call, by processes of this name
}

// mostDenials is how many different ones are kept.
const mostDenials = 16

// denials are what a listener has heard.
type denials struct {
	mu   sync.Mutex
	list []*Denial

	last  notification // and what is known of it: a process that is told "no" may ask again and again
	known *Denial
}

// Denied tells which system calls the filter denied so far: at most 16 different ones, the first. They are those that it
// denied with its usual error, which is that of its default action, or of the first rule that denies one.
func (c *Container) Denied() []Denial { return c.denied.soFar() }

func (d *denials) soFar() (list []Denial) {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, denial := range d.list {
		list = append(list, *denial)
	}
	return list
}

// usualError is the error that a filter denies most calls with, 0 if we are not to be asked. ENOSYS is none: it sends a program
// another way, as from clone3 to clone, and often.
func usualError(spec *specs.LinuxSeccomp) syscall.Errno {
	action, number := spec.DefaultAction, spec.DefaultErrnoRet
	for _, rule := range spec.Syscalls {
		if action == specs.ActAllow && rule.Action == specs.ActErrno {
			action, number = rule.Action, rule.ErrnoRet
		}
	}
	errno := unix.EPERM
	if number != nil {
		errno = syscall.Errno(*number)
	}
	// A process can have one listener only. If we have a filter, the process that started us may be listening.
	filtered, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	canSend := allows(spec, "sendmsg") // by that the listener comes
	if action != specs.ActErrno || errno == unix.ENOSYS || !canSend || err != nil || filtered != 0 || spec.ListenerMetadata == seccomp.Unasked {
		return 0
	}
	return errno
}

// allows tells whether a filter lets all calls of a name through.
func allows(spec *specs.LinuxSeccomp, name string) bool {
	allowed := spec.DefaultAction == specs.ActAllow
	for _, rule := range spec.Syscalls {
		if slices.Contains(rule.Names, name) {
			allowed = rule.Action == specs.ActAllow && len(rule.Args) == 0
		}
	}
	return allowed
}

// wantsListener is an error that no filter has: in its place stands the question about a program that wants a listener.
const wantsListener = unix.SECCOMP_RET_DATA

// askAboutListeners adds that question. The kernel would say EBUSY, as there is ours, and nobody would know why.
func askAboutListeners(spec *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	asking, errno := *spec, uint(wantsListener)
	asking.Syscalls = append([]specs.LinuxSyscall{{Names: []string{"seccomp"}, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{
		{Index: 0, Value: unix.SECCOMP_SET_MODE_FILTER, Op: specs.OpEqualTo},
		{Index: 1, Value: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, ValueTwo: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, Op: specs.OpMaskedEqual},
		{Index: 2, Value: 0, Op: specs.OpNotEqual}, // with no program in it, it asks only whether the kernel knows the flag
	}}}, spec.Syscalls...)
	return &asking
}

// askInstead changes a compiled filter: where it denies with that error, it asks.
func askInstead(program []unix.SockFilter, errno syscall.Errno) {
	for i := range program {
		if program[i].Code == unix.BPF_RET|unix.BPF_K && program[i].K == unix.SECCOMP_RET_ERRNO|uint32(errno) {
			program[i].K = unix.SECCOMP_RET_USER_NOTIF
		}
	}
}

// addListening loads a filter that asks, and sends its listener to the parent.
func addListening(list *birth.List, filter *unix.SockFprog) {
	// Where the kernel can (5.19), signals do not interrupt a process that waits for an answer: a call would fail with EINTR that should
	// fail with EPERM. If it knows the flag, it says EFAULT, as there is no program here.
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0); errno != unix.EFAULT {
		flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	list.Add("load the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, unsafe.Pointer(filter))
	list.Send()
}

// notification is struct seccomp_notif of linux/seccomp.h, and response is struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// The first so many answers are given at once, later ones after a pause each.
const (
	promptAnswers = 1000
	answerPause   = time.Millisecond
)

// listen answers until no process has the filter any more. What it is asked about by a process is in d before that process
// goes on, so when the last one has ended, d has all. A process that is told "no" may ask again at once, and answers take more
// of the processors than questions; they are not the container's, whatever its limit is. So a process that goes on asking waits.
func (d *denials) listen(listener *os.File, f filter) {
	defer listener.Close()
	fd := listener.Fd()
	for answers := 0; ; {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		}
		if poll[0].Revents&unix.POLLIN == 0 { // POLLHUP
			return
		}
		var asked notification
		if _, _, err := unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&asked))); err != 0 {
			continue // the process was killed meanwhile
		}
		call, errno := seccomp.Name(uint32(asked.nr)), f.asks
		if call == "seccomp" && f.busy {
			errno = unix.EBUSY
		}
		d.note(call, asked, errno)
		if answers++; answers > promptAnswers {
			time.Sleep(answerPause)
		}
		answer := response{id: asked.id, errno: -int32(errno)}
		unix.Syscall(unix.SYS_IOCTL, fd, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer)))
	}
}

// note keeps a denial. The process waits for the answer, so its number is its own.
func (d *denials) note(call string, asked notification, errno syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if again := d.last.nr == asked.nr && d.last.pid == asked.pid; !again {
		d.last, d.known = asked, d.know(call, asked, errno)
	}
	if d.known != nil {
		d.known.Times++
	}
}

// know finds the denial in the list, or adds it. It is nil where there is no place for one more.
func (d *denials) know(call string, asked notification, errno syscall.Errno) *Denial {
	denial := &Denial{Call: call, First: asked.args[0], Errno: unix.ErrnoName(errno)}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", asked.pid)) // a process that is killed at this moment has no name
	for line := range strings.Lines(string(status)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t"); key {
		case "Name":
			denial.Process = value
		case "NStgid": // the question is a thread's
			pids := strings.Fields(value)
			denial.Pid, _ = strconv.Atoi(pids[len(pids)-1])
		}
	}
	for _, known := range d.list {
		if known.Call == denial.Call && known.Process == denial.Process {
			return known
		}
	}
	if len(d.list) == mostDenials {
		return nil
	}
	d.list = append(d.list, denial)
	return denial
}
