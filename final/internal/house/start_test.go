//go:build linux

package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// Before main begins, each start initialises all packages that the program has. Which libraries there are decides how many
// these are and what they allocate. So a library is chosen with this in mind, and a regular expression or a large table
// is made when it is used first.
func TestAStartInitialisesLittle(t *testing.T) {
	const mostPackages, mostBytes = 165, 340_000
	gocker := filepath.Join(t.TempDir(), "gocker")
	build := exec.Command("go", "build", "-o", gocker, "gocker/final")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	version := exec.Command(gocker, "--version")
	version.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := version.CombinedOutput()
	if err != nil {
		t.Fatalf("gocker --version: %v\n%s", err, out)
	}
	packages := regexp.MustCompile(`(?m)^init \S+ .* (\d+) bytes, \d+ allocs$`).FindAllSubmatch(out, -1)
	bytes := 0
	for _, p := range packages {
		n, err := strconv.Atoi(string(p[1]))
		if err != nil {
			t.Fatal(err)
		}
		bytes += n
	}
	if len(packages) == 0 || len(packages) > mostPackages || bytes > mostBytes {
		t.Errorf("a start initialises %d packages, which allocate %d bytes; want at most %d and %d\n%s", len(packages), bytes, mostPackages, mostBytes, out)
	}
}
