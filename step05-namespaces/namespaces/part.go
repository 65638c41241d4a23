//go:build linux

package namespaces

import (
	"os"
	"reflect"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/rootfs"
)

// A Part is something that a container has beside its namespaces and its root: a cgroup, a user, a filter of system calls.
// It is a function for each moment at which it has something to do, nil for the others. They are called in the order in
// which Create was given the parts, on the thread that sets the container up. An error ends the setup.
//
// The order of the moments keeps a container in: a Part can do less at each later one. So the order stands here, once:
//
//	Outside   nothing is made yet, and names are the host's
//	Unshare   the thread goes into the namespaces
//	Unshared  the thread is in there, and names are still the host's
//	          it changes its root
//	Mount     an entry of the spec is to be mounted
//	Inside    names are the container's, all is mounted, and the thread still may do all
//	First     the child's list begins: all that it does it does after this
//	          then it takes its cgroup namespace, mounts /proc, and waits
//	Last      the child has only its streams open, and is about to execute its command
//	Command   the list ends, with how the child becomes the command
//	          the child is made
//	Ready     the child waits, and /proc is there
//	Done      the setup is over, and the child needs nothing of ours any more; or it failed
//	Sent      the child has sent a file
//	Started   it executes its command
//	Failed    or it could not
//	Ended     it has ended
//
// A process that Join starts has the same moments but Unshare, Unshared and Mount: it finds all made and mounted.
type Part struct {
	Outside func() error
	// Unshare takes flags of namespaces, goes into those that it makes in its own way, and returns the others. What it makes
	// is the child's, too: if that is a pid namespace, the part sees to it.
	Unshare  func(flags int) (left int, err error)
	Unshared func() error
	// Mount returns true for an entry that it has dealt with: then no other part is asked, and Create does not mount it.
	Mount  func(r *rootfs.Root, m specs.Mount) (done bool, err error)
	Inside func() error
	First  func(list *birth.List) error
	Last   func(list *birth.List) error
	// Command returns true for a part that has ended the list in its own way: see Process.Follow.
	Command func(list *birth.List) (done bool, err error)
	Ready   func(p *Process) error
	Done    func(err error)
	Sent    func(file *os.File) // it belongs to the part
	Started func()
	Failed  func(err error) error // returns the error that says more
	Ended   func(status unix.WaitStatus)
}

// Streams are the standard input, output and error of a process: see package terminal.
type Streams interface {
	// Part is what they do, before all other parts.
	Part() Part
	// Connect adds the calls that make them the child's files 0, 1 and 2. It has a session of its own then.
	Connect(list *birth.List) error
	// Wait waits until all that the process wrote has arrived.
	Wait() error
}

// idle has nothing to do at any moment.
var idle = Part{
	Outside:  func() error { return nil },
	Unshare:  func(flags int) (int, error) { return flags, nil },
	Unshared: func() error { return nil },
	Mount:    func(*rootfs.Root, specs.Mount) (bool, error) { return false, nil },
	Inside:   func() error { return nil },
	First:    func(*birth.List) error { return nil },
	Last:     func(*birth.List) error { return nil },
	Command:  func(*birth.List) (bool, error) { return false, nil },
	Ready:    func(*Process) error { return nil },
	Done:     func(error) {},
	Sent:     func(*os.File) {},
	Started:  func() {},
	Failed:   func(err error) error { return err },
	Ended:    func(unix.WaitStatus) {},
}

// filled has the functions of idle where the part has none.
func (part Part) filled() Part {
	all, none := reflect.ValueOf(&part).Elem(), reflect.ValueOf(idle)
	for i := range all.NumField() {
		if all.Field(i).IsNil() {
			all.Field(i).Set(none.Field(i))
		}
	}
	return part
}

// each calls one moment of all parts, until an error.
func (p *Process) each(moment func(Part) error) error {
	for _, part := range p.parts {
		if err := moment(part); err != nil {
			return err
		}
	}
	return nil
}
