//go:build linux

package main

// Take away the _ of a package when you use it.
import _ "golang.org/x/sys/unix" // has the system calls

// run runs a command isolated in rootfs, and returns its status. cgroups are folders of cgroups that the command is to be in: step 6
// has some, and step 5 has none. See docs/step05-namespaces.md.
func run(rootfs string, command []string, cgroups []string) (status int, err error) {
	// TODO 1: start a process in new pid, mount, uts, ipc and network namespaces. What comes now, it does before it becomes the command.
	// A Go program cannot fork: it starts itself once more, as /proc/self/exe, and finds out that it is the second one.
	// TODO 2: set another host name, and the network device lo up.
	// TODO 3: make the mounts private, and rootfs the root, by pivot_root(2). Nothing of the old root stays.
	// TODO 4: mount /proc, and a /dev with null, zero, full, random and urandom.
	// TODO 5: become the command, with an environment of its own. Status 127: there is none. 126: it cannot be executed.
	// TODO 6: outside, wait for it, send SIGTERM and SIGINT on to it, and return its status. It must not outlive P.
	return 125, missing(5)
}
