//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gocker/step04-overlay/testroot"
)

// TestMain lets the test binary be the program, and the program's child.
func TestMain(m *testing.M) {
	if os.Args[0] == "osexec" || os.Args[0] == "child" {
		main()
		return
	}
	os.Exit(testroot.Run(m))
}

// osexec runs the program, and returns what it wrote and its exit status.
func osexec(t *testing.T, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "osexec"
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), cmd.ProcessState.ExitCode()
}

func TestTheCommandSeesOnlyItself(t *testing.T) {
	f := testroot.Mount(t)
	got, status := osexec(t, f.Mnt(), "sh", "-c", "echo $$; hostname; cat /etc/motd; cat /proc/1/comm; exit 7")
	if want := "1\ncontainer\nlayer 3 updated this\nsh"; got != want || status != 7 {
		t.Errorf("got %q, status %d, want %q, 7", got, status, want)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte(f.Mnt()+"/")) {
		t.Errorf("its mounts are on the host, too:\n%s, %v", mounts, err)
	}
}

func TestWhatCannotBeDoneIsSaid(t *testing.T) {
	f := testroot.Mount(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "osexec: usage: osexec ROOTFS CMD [ARG…]"},
		{[]string{"/no/such/folder", "sh"}, "no such file or directory"},
		{[]string{f.Mnt(), "no-such-command"}, `osexec: exec: "no-such-command": executable file not found in $PATH`},
	} {
		if got, status := osexec(t, tt.args...); !strings.Contains(got, tt.want) || status != 1 {
			t.Errorf("osexec %q wrote %q, status %d, want %q, 1", tt.args, got, status, tt.want)
		}
	}
}
