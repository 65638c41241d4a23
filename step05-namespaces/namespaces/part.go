//go:build linux

package namespaces

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
)

// A Part is something that a container has beside its namespaces and its root: a cgroup, a user, a filter of system calls.
// It is a function for each moment at which it has something to do, nil for the others. They are called in the order in
// which Create was given the parts, on the thread that sets the container up. An error ends the setup.
//
// What can be done when, and what no longer, is what keeps a container in:
//
//	Outside   nothing is made yet, and names are the host's
//	          the thread goes into the namespaces and changes its root
//	Mount     an entry of the spec is to be mounted
//	Inside    names are the container's, all is mounted, and the thread still may do all
//	First     the child's list begins: whatever it does, it does after this
//	          it takes its cgroup namespace, mounts /proc, and waits
//	Last      it has only its streams open, and is about to execute its command
//	Ready     the child waits, and /proc is there
//	Done      the child needs nothing of ours any more, or the setup failed
//	Sent      the child has sent a file
//	Failed    it could not execute its command
//	Ended     it has ended
//
// A process that Join starts has the same moments, but for Mount: it finds all made.
type Part struct {
	Outside func() error
	// Mount returns true for an entry that it has dealt with: then no other part is asked, and it is not mounted.
	Mount  func(m specs.Mount) (done bool, err error)
	Inside func() error
	First  func(list *birth.List) error
	Last   func(list *birth.List) error
	Ready  func(p *Process) error
	Done   func()
	Sent   func(file *os.File)
	// Failed returns the error that says more.
	Failed func(err error) error
	Ended  func(p *Process)

	tell story.Story
}

// Tell is the part that hears what is done.
func Tell(tell story.Story) Part { return Part{tell: tell} }

// filled has functions that do nothing where the part has none.
func (part Part) filled() Part {
	if part.Outside == nil {
		part.Outside = func() error { return nil }
	}
	if part.Mount == nil {
		part.Mount = func(specs.Mount) (bool, error) { return false, nil }
	}
	if part.Inside == nil {
		part.Inside = func() error { return nil }
	}
	if part.First == nil {
		part.First = func(*birth.List) error { return nil }
	}
	if part.Last == nil {
		part.Last = func(*birth.List) error { return nil }
	}
	if part.Ready == nil {
		part.Ready = func(*Process) error { return nil }
	}
	if part.Done == nil {
		part.Done = func() {}
	}
	if part.Sent == nil {
		part.Sent = func(file *os.File) { file.Close() }
	}
	if part.Failed == nil {
		part.Failed = func(err error) error { return err }
	}
	if part.Ended == nil {
		part.Ended = func(*Process) {}
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
