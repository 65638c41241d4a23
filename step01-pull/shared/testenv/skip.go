package testenv

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// NeedRoot skips a test that needs privileges, and says so. Where CI is set it fails instead: there nothing is skipped.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test needs root, and in CI no test may be skipped")
	}
	t.Skip("SKIPPED: this test makes mounts, namespaces or cgroups, and needs root: sudo $(which go) test work")
}

// NeedMachinesRoot skips a test that root of a user's namespace cannot run, and says why: also where CI is set, as there all tests
// run as the machine's root, too.
func NeedMachinesRoot(t testing.TB, why string) {
	t.Helper()
	NeedRoot(t)
	if inside() {
		t.Skipf("SKIPPED: a user cannot run this test: %s", why)
	}
}

// inside tells whether these tests run in a user namespace: the machine's first has all ids, from 0 on.
func inside() bool {
	users, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(users)), " ") != "0 0 4294967295"
}

// Lacks skips a test for want of a program, and says so. Where CI is set it fails instead.
func Lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("this test needs %s, and in CI no test may be skipped", what)
	}
	t.Skipf("SKIPPED: this machine has no %s", what)
}

// Needs skips a test where one of the programs is missing, and says so. Where CI is set it fails instead.
func Needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			Lacks(t, program)
		}
	}
}
