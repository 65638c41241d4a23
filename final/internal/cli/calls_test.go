//go:build linux

package cli_test

import (
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
)

// A file of /proc/thread-self makes the kernel keep a name for the thread, which both the thread and the process that waits for gocker
// remove at gocker's end. Each waits for the other, and on a busy machine that takes milliseconds.
func TestAStartAsksForNoThreadInProc(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "strace")
	log, _ := strace(t, withSample(t), "%file", nil, []string{"run", "--rm", "-p", "127.0.0.1::80", "sample", "true"})
	for line := range strings.Lines(log) {
		if strings.Contains(line, "/proc/thread-self") {
			t.Errorf("gocker run: %s", line)
		}
	}
}
