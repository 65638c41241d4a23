package testenv

import (
	"os"
	"os/exec"
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
