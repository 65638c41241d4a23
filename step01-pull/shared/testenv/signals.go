package testenv

import (
	"os"
	"os/signal"
	"syscall"
)

// DefaultSignals has programs that the tests start ignore no signal. nohup(1) and a shell's "&" make what they start
// ignore some, and that goes on from program to program; what a program catches, the next one does not ignore.
func DefaultSignals() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}
