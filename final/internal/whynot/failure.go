//go:build linux

package whynot

import (
	"errors"

	"gocker/step01-pull/shared/advice"
	"gocker/step05-namespaces/namespaces"
)

// A Failure is an error on its way from one process to another.
type Failure struct {
	Message, Advice         string
	NotFound, NotExecutable bool
}

// NewFailure packs an error.
func NewFailure(err error) Failure {
	return Failure{err.Error(), advice.Of(err), errors.Is(err, namespaces.ErrNotFound), errors.Is(err, namespaces.ErrNotExecutable)}
}

// Err unpacks it: the same message and advice, and namespaces.ErrNotFound or namespaces.ErrNotExecutable if it was one.
func (f Failure) Err() error {
	err := errors.New(f.Message)
	switch {
	case f.NotFound:
		err = remote{f.Message, namespaces.ErrNotFound}
	case f.NotExecutable:
		err = remote{f.Message, namespaces.ErrNotExecutable}
	}
	if f.Advice != "" {
		return advice.Add(err, "%s", f.Advice)
	}
	return err
}

// remote is an error whose text was made in another process.
type remote struct {
	message string
	is      error
}

func (r remote) Error() string { return r.message }
func (r remote) Unwrap() error { return r.is }
