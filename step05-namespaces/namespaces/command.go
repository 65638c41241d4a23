//go:build linux

package namespaces

import (
	"fmt"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/story"
)

// addCommand ends the list: the child gives up what it has of gocker, and becomes the command.
func (p *Process) addCommand(process *specs.Process) error {
	l := p.list
	// A session of its own: the host's terminal is not the container's, so no Ctrl-C from there, and no TIOCSTI to there.
	l.Add("setsid", unix.SYS_SETSID)
	p.later.Run(story.Become, "a session of its own: no Ctrl-C from the host's terminal", "setsid")
	if err := p.streams.openNull(); err != nil {
		return advice.Add(err, "exec -i needs no null device for its input")
	}
	for fd, from := range p.streams.theirs {
		l.Add("dup3", unix.SYS_DUP3, from, fd, 0)
	}
	if process.Terminal {
		// The terminal of a session is where its Ctrl-C comes from.
		l.Add("make it the controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	l.CloseAll()
	l.DefaultSignals()
	if err := p.addRlimits(process.Rlimits); err != nil {
		return err
	}
	// The filter needs CAP_SYS_ADMIN, if there is no no_new_privs, so it comes before the user.
	filter, err := p.filter()
	switch {
	case err != nil:
		return err
	case filter.asks != 0:
		addListening(l, filter.SockFprog)
	case filter.SockFprog != nil:
		l.Add("load the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, unsafe.Pointer(filter.SockFprog))
	}
	if filter.SockFprog != nil {
		p.later.Sh(story.Join, fmt.Sprintf("a seccomp filter of %d instructions says which system calls go through", filter.Len),
			"# setpriv --seccomp-filter FILE, since util-linux 2.41; nothing else in a shell can load one")
	}
	p.addUser(process.User)
	if err := p.each(func(part Part) error { return part.Last(l) }); err != nil {
		return err
	}
	l.ChangeFolder(process.Cwd)
	if err := l.Exec(process.Args, process.Env); err != nil {
		return err
	}
	p.later.Run(story.Become, "its environment, and nothing of ours", append([]string{"env", "-i"}, process.Env...)...)
	p.later.Run(story.Command, "the command, in place of what the child was so far", process.Args...)
	return nil
}

// addUser changes to the user of the command. Groups go first: a user who is not root may not change them any more.
func (p *Process) addUser(user specs.User) {
	groups := append([]uint32{}, user.AdditionalGids...)
	list := append(groups, 0) // so that there is something to point to
	p.list.Add(fmt.Sprintf("set groups %v", groups), unix.SYS_SETGROUPS, len(groups), unsafe.Pointer(&list[0]))
	p.list.Add(fmt.Sprintf("set group %d", user.GID), unix.SYS_SETGID, int(user.GID))
	p.list.Add(fmt.Sprintf("set user %d", user.UID), unix.SYS_SETUID, int(user.UID))
	p.later.Run(story.Become, "its user and groups", setprivUser(user)...)
	if user.Umask != nil {
		p.list.Add("set the umask", unix.SYS_UMASK, int(*user.Umask))
		p.later.Run(story.Join, "what its files' modes are without", "umask", fmt.Sprintf("%03o", *user.Umask))
	}
	if p.bound {
		p.list.DieWithParent() // a change of user forgets it
	}
}
