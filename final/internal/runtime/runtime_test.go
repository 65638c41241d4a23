//go:build linux

package runtime_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/runtime"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
	"gocker/step06-cgroups/cgroups"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "probe" {
		probe(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "attack" {
		attack(os.Args[2])
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "listen" {
		listen()
		return
	}
	os.Exit(testroot.Run(m))
}

var containers atomic.Int32

// create makes a container that the test ends or starts. Several may share a root.
func create(t testing.TB, f *overlay.FS, spec *specs.Spec, stdio terminal.Stdio) (*runtime.Container, error) {
	t.Helper()
	own := *spec
	linux := *spec.Linux
	own.Linux = &linux
	linux.CgroupsPath = fmt.Sprintf("gocker-test-%s-%d", f.ID, containers.Add(1)) // not the pid: others have a namespace of their own, too
	c, err := runtime.Create(f, &own, terminal.New(own.Process, stdio), nil)
	if err == nil {
		t.Cleanup(func() {
			// The folder of the root has the record of one cgroup, that of the last container.
			if err := errors.Join(c.Remove(), cgroups.Remove(c.Cgroup)); err != nil {
				t.Error(err)
			}
		})
	}
	return c, err
}

// waiting is a container whose command reads, cat for one, and so lives until the test is over.
func waiting(t testing.TB, f *overlay.FS, spec *specs.Spec) *runtime.Container {
	t.Helper()
	r, w := io.Pipe()
	c, err := create(t, f, spec, terminal.Stdio{Stdin: r})
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		c.Wait()
	})
	return c
}

// output runs a command to its end and returns what it wrote.
func output(t testing.TB, f *overlay.FS, spec *specs.Spec) (string, int) {
	t.Helper()
	var out bytes.Buffer
	c, err := create(t, f, spec, terminal.Stdio{Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("Create = %v", err)
	}
	status, err := c.Run()
	if err != nil {
		t.Fatalf("Run(%q) = %v", spec.Process.Args, err)
	}
	return strings.TrimSpace(out.String()), status
}

func sh(f *overlay.FS, script string) *specs.Spec {
	return namespaces.Spec(f.Mnt(), "testhost", []string{"sh", "-c", script})
}
