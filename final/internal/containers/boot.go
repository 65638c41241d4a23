//go:build linux

package containers

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/why"
	"gocker/step04-overlay/check"
)

// A container that runs notes which start of the machine it runs in. When the machine has started anew, nothing that the state
// says of processes is true: the numbers may be other processes' now.

// ThisBoot is different for each start of the machine: see random(4).
func ThisBoot() string { return check.Text("/proc/sys/kernel/random/boot_id") }

// lostStatus is what docker says of a container that ran when the machine stopped: nobody knows how it ended.
const lostStatus = 255

// lost notes that no gocker runs a container that one should run: its gocker was killed, or the machine has stopped.
func (s *State) lost() {
	if s.Status == specs.StateRunning {
		s.ExitCode, s.Finished, s.End = 137, time.Now(), why.End{Orphaned: true} // it was killed with its gocker
		if s.Boot != "" && s.Boot != ThisBoot() {
			s.ExitCode, s.Finished, s.End = lostStatus, booted(), why.End{Rebooted: true}
			if s.Finished.Before(s.Started) { // the clock was set
				s.Finished = s.Started
			}
		}
	}
	s.Status, s.Pid, s.Monitor = specs.StateStopped, 0, 0
}

// booted is about when the machine started.
func booted() time.Time {
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(since.Nano()))
}

// Boots tells whether a container is to run after a start of the machine. As with docker, "always" holds for one that a user
// has stopped, too, and no policy holds for one that has never run.
func (s State) Boots() bool {
	policy := s.Options.Restart
	if s.Started.IsZero() || s.Stopped && policy.Name != "always" {
		return false
	}
	return policy.Again(s.ExitCode, s.Restarts)
}
