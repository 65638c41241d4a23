//go:build linux

package cli_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

var kills = flag.Int("kills", 30, "how often TestKilledAtAnyMomentTheStoreIsWhole kills")

// mustBeWhole recomputes every digest of the store, and wants nothing to be left in it that nobody needs.
func mustBeWhole(t testing.TB, d dirs.Dirs) {
	t.Helper()
	if output, err := gocker(t, d, "system", "check"); err != nil {
		t.Fatalf("the store is not whole:\n%s", output)
	}
}

// someImages are three that share layers, in a registry and as archives that load takes.
func someImages(t testing.TB) (names, archives []string) {
	t.Helper()
	address := testenv.Registry(t, nil)
	base := testenv.Tar(t, testenv.Dir("d"), testenv.File("d/base", noise(2<<20)))
	folder := t.TempDir()
	made := emptyDirs(t)
	for i, layers := range [][][]byte{
		{base},
		{base, testenv.Tar(t, testenv.File("d/second", noise(1<<20)), testenv.File("d/.wh.base", ""))},
		{base, testenv.Tar(t, testenv.File("third", noise(4<<20)))},
	} {
		name := fmt.Sprintf("%s/image-%d", address, i)
		testenv.Push(t, testenv.Image(t, layers...), name)
		archive := filepath.Join(folder, fmt.Sprint(i, ".tar"))
		mustGocker(t, made, "pull", "-q", name)
		mustGocker(t, made, "save", "-o", archive, name)
		names, archives = append(names, name), append(archives, archive)
	}
	return names, archives
}

func TestKilledAtAnyMomentTheStoreIsWhole(t *testing.T) {
	testenv.NeedRoot(t)
	names, archives := someImages(t)
	d := emptyDirs(t)
	took := map[string]time.Duration{}
	kills, ended := many(*kills), 0
	for n := range kills + 3 {
		i := rand.N(len(names))
		args := [][]string{{"pull", "-q", names[i]}, {"load", "-q", "-i", archives[i]}, {"rmi", names[i]}}[n%3]
		if args[0] == "rmi" {
			mustGocker(t, d, "pull", "-q", names[i])
		} else {
			gocker(t, d, "rmi", names[i]) // it may not be here
		}
		begin := time.Now()
		if n < 3 { // how long does it take?
			mustGocker(t, d, args...)
			took[args[0]] = time.Since(begin)
			continue
		}
		cmd := exec.Command("gocker", args...)
		cmd.Env = append(os.Environ(), "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(took[args[0]]))
		cmd.Process.Kill()
		if cmd.Wait() == nil {
			ended++
		}
		if i = rand.N(len(names)); rand.N(2) == 0 {
			mustGocker(t, d, "pull", "-q", names[i])
		} else {
			mustGocker(t, d, "load", "-i", archives[i])
		}
		mustBeWhole(t, d)
		if t.Failed() {
			t.Fatalf("that was after gocker %s", strings.Join(args, " "))
		}
	}
	t.Logf("%d of %d commands were killed before their end", kills-ended, kills)
	mustGocker(t, d, "image", "prune", "--force") // what broken pulls keep, to go on there
	mustGocker(t, d, "load", "-q", "-i", archives[0])
	mustGocker(t, d, "tag", names[0], "last") // the next change of names removes what one that was killed has written
	mustGocker(t, d, "rmi", "last")
}

func TestTwentyCommandsAtOnce(t *testing.T) {
	testenv.NeedRoot(t)
	names, archives := someImages(t)
	d := emptyDirs(t)
	mustGocker(t, d, "pull", "-q", names[0])
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			name, archive := names[i%3], archives[i%3]
			for _, args := range [][]string{{"pull", "-q", name}, {"images"}, {"rmi", name}, {"load", "-i", archive}, {"tag", name, fmt.Sprint("mine-", i)}, {"rmi", fmt.Sprint("mine-", i)}} {
				output, err := gocker(t, d, args...)
				// Somebody else may have removed it a moment ago.
				if err != nil && !strings.Contains(output, "no such image here") && !strings.Contains(output, "was removed") {
					t.Errorf("gocker %s: %v\n%s", strings.Join(args, " "), err, output)
				}
			}
		})
	}
	all.Wait()
	mustBeWhole(t, d)
	for _, name := range names {
		gocker(t, d, "rmi", name)
	}
	mustBeWhole(t, d)
	if left := testenv.Ls(t, d.Layers()); len(left) > 0 {
		t.Errorf("layers has %q, and there is no image any more", left)
	}
}

func TestAFullDiskLeavesTheStoreWhole(t *testing.T) {
	testenv.NeedRoot(t)
	names, archives := someImages(t)
	d := testenv.SmallDisk(t, 9<<20)
	mustGocker(t, d, "pull", "-q", names[0]) // two times 2 MB: as files, and as it was sent
	for _, args := range [][]string{{"pull", "-q", names[2]}, {"load", "-i", archives[2]}} {
		output, err := gocker(t, d, args...)
		if err == nil || !strings.Contains(output, "no space left on device") {
			t.Errorf("gocker %s: %v, want no space left:\n%s", strings.Join(args, " "), err, output)
		}
		mustBeWhole(t, d)
		if left := testenv.Ls(t, d.AllTmp()); len(left) > 0 {
			t.Errorf("tmp has %q", left)
		}
	}
	mustGocker(t, d, "pull", "-q", names[1])
	mustBeWhole(t, d)
}
