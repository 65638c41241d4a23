//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"gocker/step01-pull/shared/testenv"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

func TestMain(m *testing.M) {
	testenv.Alone()
	os.Exit(m.Run())
}

// build makes a root folder with nothing in it but breakout, and returns the folder.
func build(t *testing.T) (rootfs string) {
	testenv.NeedRoot(t)
	rootfs = t.TempDir()
	cmd := exec.Command("go", "build", "-o", filepath.Join(rootfs, "breakout"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return rootfs
}

// roots returns what the lines of breakout's output say of "/".
func roots(t *testing.T, out []byte, lines int) []string {
	var roots []string
	for _, m := range regexp.MustCompile(`(?m)/ is (inode .*)$`).FindAllSubmatch(out, -1) {
		roots = append(roots, string(m[1]))
	}
	if len(roots) != lines {
		t.Fatalf("breakout printed %q, want %d lines", out, lines)
	}
	return roots
}

func TestASecondChrootLeavesAChroot(t *testing.T) {
	rootfs := build(t)
	out, err := exec.Command(filepath.Join(rootfs, "breakout"), "chroot", rootfs).CombinedOutput()
	if err != nil {
		t.Fatalf("breakout chroot: %v\n%s", err, out)
	}
	if root := roots(t, out, 3); root[1] == root[0] || root[2] != root[0] {
		t.Errorf("/ was %q, then %q, then %q; want the first again at the end", root[0], root[1], root[2])
	}
}

func TestASecondChrootDoesNotLeaveAContainer(t *testing.T) {
	var out bytes.Buffer
	spec := namespaces.Spec(build(t), "breakout", []string{"/breakout", "here"})
	p, err := namespaces.Create(spec, terminal.New(spec.Process, terminal.Stdio{Stdout: &out, Stderr: &out}))
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Run(); status != 0 || err != nil {
		t.Fatalf("Run = %d, %v\n%s", status, err, out.Bytes())
	}
	if root := roots(t, out.Bytes(), 2); root[1] != root[0] {
		t.Errorf("/ was %q, and after the second chroot it is %q; want the same", root[0], root[1])
	}
}
