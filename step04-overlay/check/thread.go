//go:build linux

package check

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// OnThread calls try on a thread that ends with it. A thread may leave the namespaces that the others are in, see
// unshare(2); when it ends, what it made there is gone, whatever happens.
func OnThread(try func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// Not on the first thread: it ends only with the process, and /proc/self means it. While this one is held
			// here, another goroutine gets another thread.
			err := OnThread(try)
			runtime.UnlockOSThread()
			result <- err
			return
		}
		result <- try() // and never unlocked: so the thread ends, and is not used again
	}()
	return <-result
}

// Elsewhere calls do on another thread, in the namespaces that the program began in. The function that it returns waits for the result.
func Elsewhere[T any](do func() (T, error)) func() (T, error) {
	var value T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		value, err = do()
	}()
	return func() (T, error) {
		<-done
		return value, err
	}
}

// Chroot is how to have a mount point for a root folder, which chroot(2) does not make one.
const Chroot = "in a chroot: leave it, make its folder a mount point, mount --bind FOLDER FOLDER, and chroot again"

// NotPrivate is the error of the request that makes all mounts private: the kernel wants a mount point for that.
func NotPrivate(err error) error {
	if err == unix.EINVAL {
		return advice.Add(fmt.Errorf("make all mounts private: / is no mount point: %w", err), Chroot)
	}
	return fmt.Errorf("make all mounts private: %w", err)
}

// InOwnMounts calls do on a thread with a mount namespace of its own: what do mounts nobody else sees, and it is gone
// afterwards, also if this process is killed. The working directory is the thread's own, too.
func InOwnMounts(do func() error) error {
	return OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return NotPrivate(err)
		}
		return do()
	})
}
