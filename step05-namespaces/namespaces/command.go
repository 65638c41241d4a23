//go:build linux

package namespaces

import (
	"fmt"
	"syscall"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/story"
)

// addBeginning begins the list: the child goes into its cgroup, unless it is born there.
func (p *Process) addBeginning() error {
	place, err := p.place()
	if err != nil {
		return err
	}
	b := p.birth
	for _, door := range place.doors {
		b.add(fmt.Sprintf("write 0 to %q", door.Name()), unix.SYS_WRITE, int(door.Fd()), "0", 1)
	}
	b.tellDoors(place.doors)
	// It has a copy of our memory, which those who are inside already may not look into. See prctl(2).
	b.add("prctl PR_SET_DUMPABLE", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	// Our side of the socket is in its copy too. With that open it would never hear that we have died.
	b.add("close gocker's side of the socket", unix.SYS_CLOSE, int(b.ours.Fd()))
	return nil
}

// addCommand ends the list: the child gives up what it has of gocker, and becomes the command.
func (p *Process) addCommand(process *specs.Process) error {
	b := p.birth
	// A session of its own: the host's terminal is not the container's, so no Ctrl-C from there, and no TIOCSTI to there.
	b.add("setsid", unix.SYS_SETSID)
	b.tell.Run(story.Become, "a session of its own: no Ctrl-C from the host's terminal", "setsid")
	for fd, from := range p.streams.theirs {
		b.add("dup3", unix.SYS_DUP3, from, fd, 0)
	}
	if process.Terminal {
		// The terminal of a session is where its Ctrl-C comes from.
		b.add("make it the controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	b.addCloseAll()
	b.addDefaultSignals()
	if err := b.addRlimits(process.Rlimits); err != nil {
		return err
	}
	// The filter needs CAP_SYS_ADMIN, if there is no no_new_privs, so it comes before the user.
	filter, err := p.filter()
	switch {
	case err != nil:
		return err
	case filter.asks != 0:
		b.addListening(filter.SockFprog)
	case filter.SockFprog != nil:
		b.add("load the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, unsafe.Pointer(filter.SockFprog))
	}
	if filter.SockFprog != nil {
		b.tell.Sh(story.Join, fmt.Sprintf("a seccomp filter of %d instructions says which system calls go through", filter.Len),
			"# setpriv --seccomp-filter FILE, since util-linux 2.41; nothing else in a shell can load one")
	}
	b.addUser(process.User)
	b.addFolder(process.Cwd)
	b.add("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, unsafe.Pointer(new(unix.Sigset_t)), 0, sigsetSize)
	return b.addExec(process)
}

// addCloseAll closes what the child has open of gocker's, and of whoever started that: nothing of the host may be found
// open in a container, and no name in /proc/self/fd may lead there. The socket closes at execve(2).
func (b *birth) addCloseAll() {
	const what = "close inherited files"
	if b.theirs > 3 {
		b.add(what, unix.SYS_CLOSE_RANGE, 3, b.theirs-1, 0)
	}
	b.add(what, unix.SYS_CLOSE_RANGE, b.theirs+1, uintptr(^uint32(0)), 0)
}

// sigsetSize is how large the kernel has a set of signals, in bytes.
const sigsetSize = 8

// addDefaultSignals undoes what gocker, or whoever started it, does at a signal. Handlers end with execve(2), but what
// is ignored stays ignored: with SIGPIPE so, "yes | head" would not end.
func (b *birth) addDefaultSignals() {
	byDefault := new([4]uint64) // a struct sigaction with SIG_DFL, which is 0
	for sig := 1; sig <= 64; sig++ {
		if sig != int(unix.SIGKILL) && sig != int(unix.SIGSTOP) {
			b.add("sigaction", unix.SYS_RT_SIGACTION, sig, unsafe.Pointer(byDefault), 0, sigsetSize)
		}
	}
}

// addUser changes to the user of the command. Groups go first: a user who is not root may not change them any more.
func (b *birth) addUser(user specs.User) {
	groups := append([]uint32{}, user.AdditionalGids...)
	list := append(groups, 0) // so that there is something to point to
	b.add(fmt.Sprintf("set groups %v", groups), unix.SYS_SETGROUPS, len(groups), unsafe.Pointer(&list[0]))
	b.add(fmt.Sprintf("set group %d", user.GID), unix.SYS_SETGID, int(user.GID))
	b.add(fmt.Sprintf("set user %d", user.UID), unix.SYS_SETUID, int(user.UID))
	b.tell.Run(story.Become, "its user and groups", setprivUser(user)...)
	if user.Umask != nil {
		b.add("set the umask", unix.SYS_UMASK, int(*user.Umask))
		b.tell.Run(story.Join, "what its files' modes are without", "umask", fmt.Sprintf("%03o", *user.Umask))
	}
	if b.bound {
		b.addDeathSignal() // a change of user forgets it
	}
}

// addDeathSignal has the child die with the thread that made it. See prctl(2).
func (b *birth) addDeathSignal() {
	b.bound = true
	b.add("prctl PR_SET_PDEATHSIG", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
}

// addFolder changes to the working folder, as the user. Then it must have a name inside: what getcwd(2) has for one
// that is not below the root folder is "(unreachable)…", and that is no folder's.
func (b *birth) addFolder(folder string) {
	name := new([unix.PathMax]byte)
	what := fmt.Sprintf("change to the working folder %q", folder)
	b.add(what, unix.SYS_CHDIR, folder)
	b.add(what, unix.SYS_GETCWD, unsafe.Pointer(name), len(name))
	b.add(what+", which is outside of the container", unix.SYS_CHDIR, unsafe.Pointer(name))
}

// addExec executes the command as execvp(3) does: where its name has no slash, the first one that is found in PATH.
func (b *birth) addExec(process *specs.Process) error {
	argv, err := syscall.SlicePtrFromStrings(process.Args)
	if err != nil {
		return fmt.Errorf("arguments %q: %w", process.Args, err)
	}
	envp, err := syscall.SlicePtrFromStrings(process.Env)
	if err != nil {
		return fmt.Errorf("environment %q: %w", process.Env, err)
	}
	for _, path := range candidates(process) {
		b.add(path, unix.SYS_EXECVE, path, unsafe.Pointer(&argv[0]), unsafe.Pointer(&envp[0])).orNext = true
	}
	b.tell.Run(story.Become, "its environment, and nothing of ours", append([]string{"env", "-i"}, process.Env...)...)
	b.tell.Run(story.Command, "the command, in place of what the child was so far", process.Args...)
	return nil
}
