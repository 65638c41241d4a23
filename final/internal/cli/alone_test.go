//go:build linux

package cli_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

func TestKilledTestsTakeTheirContainersWithThem(t *testing.T) {
	testenv.NeedRoot(t)
	if os.Getenv("GOCKER_TEST_FOREVER") != "" {
		d := withSample(t)
		id := dirs.Short(mustGocker(t, d, "run", "-d", "-m", "64m", "sample", "sleep", "10000")) // as cgroups are called
		fmt.Printf("runs %s %s\n", os.TempDir(), id)
		select {}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "GOCKER_TEST_FOREVER=1", "GOCKER_TEST_STAGE=")
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var folder, id string
	for lines := bufio.NewScanner(stdout); id == "" && lines.Scan(); {
		fmt.Sscanf(lines.Text(), "runs %s %s", &folder, &id)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if id == "" {
		t.Fatal("no container was started")
	}
	waitFor(t, func() bool {
		_, err := os.Stat(folder)
		return errors.Is(err, fs.ErrNotExist)
	})
	if left := testenv.Cgroups(func(name string) bool { return strings.HasSuffix(name, id) }); len(left) > 0 {
		t.Errorf("cgroups are left: %q", left)
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if environ, _ := os.ReadFile("/proc/" + p.Name() + "/environ"); strings.Contains(string(environ), folder) {
			t.Errorf("process %s is left", p.Name())
		}
	}
}
