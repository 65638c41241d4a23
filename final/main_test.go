//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
)

// TestMain is gocker itself where a test wants that.
func TestMain(m *testing.M) {
	if os.Getenv("BE_GOCKER") != "" {
		main()
	}
	testenv.Alone()
	os.Exit(m.Run())
}

// A process that has opened /proc/{pid}/exe can open it anew when nobody executes the file any more, also for writing.
func TestGockersFileCannotBeWrittenThroughItsProcess(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	// A copy: this program is executed as long as it tests.
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	gocker := filepath.Join(t.TempDir(), "gocker")
	if err := os.WriteFile(gocker, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(gocker, "run", "--rm", "-i", "sample", "cat")
	cmd.Env = append(os.Environ(), "BE_GOCKER=1", "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	// When it answers, it runs.
	if _, err := io.WriteString(stdin, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("cat said %q, %v", line, err)
	}
	exe, err := unix.Open(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(exe)
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", exe), os.O_WRONLY, 0)
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("open gocker's file for writing, through its process = %v, %v, want EROFS", again, err)
	}
	// The file itself is as it was: it can be replaced by a newer one.
	if own, err := os.OpenFile(gocker, os.O_WRONLY, 0); err != nil {
		t.Errorf("open gocker's file by its name = %v", err)
	} else {
		own.Close()
	}
}
