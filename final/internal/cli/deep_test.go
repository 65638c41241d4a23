//go:build linux

package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

// nest makes folders called d in each other, and a file in the last.
func nest(t testing.TB, folder string, n int) {
	t.Helper()
	at, err := unix.Open(folder, unix.O_DIRECTORY, 0)
	for range n {
		if err == nil {
			err = unix.Mkdirat(at, "d", 0o755)
		}
		if err == nil {
			above := at
			at, err = unix.Openat(above, "d", unix.O_DIRECTORY, 0)
			unix.Close(above)
		}
	}
	if err == nil {
		var file int
		file, err = unix.Openat(at, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
		unix.Write(file, []byte("deep"))
		unix.Close(file)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(at)
}

// deepest counts folders called d in each other, and sees that the last one has the file.
func deepest(t *testing.T, folder string) (n int) {
	t.Helper()
	at, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	for {
		below, err := at.OpenRoot("d")
		if err != nil {
			break
		}
		at.Close()
		at = below
		n++
	}
	defer at.Close()
	if content, err := at.ReadFile("file"); err != nil || string(content) != "deep" {
		t.Errorf("the file in the last folder has %q, %v", content, err)
	}
	return n
}

// withFewFiles runs a gocker that may open 256 files, and no more.
func withFewFiles(t *testing.T, d dirs.Dirs, args ...string) (output string, err error) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", `ulimit -n 256 && exec gocker "$@"`, "sh"}, args...)...)
	cmd.Env = gockerCommand(d).Env
	raw, err := cmd.CombinedOutput()
	return string(raw), err
}

// With 2048 of them a name is as long as a system call takes it. And they are more than most processes may have open at first.
func TestFoldersNestDeeperThanAPathHasRoomFor(t *testing.T) {
	const depth = 3000
	host := t.TempDir() // which is removed when there is no limit any more
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: files.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &files) })
	d := withSample(t)
	mustGocker(t, d, "create", "--name", "deep", "-v", "deep:/volume", "sample", "true")
	nest(t, filepath.Join(d.Container(testenv.Ls(t, d.Containers())[0]), "fs", "upperdir"), depth)
	nest(t, filepath.Join(d.Volume("deep"), "_data"), depth)
	file := "/" + strings.Repeat("d/", depth) + "file"
	for _, tt := range []struct {
		args string
		want string
	}{
		{"diff deep", "A " + file + "\n"},
		{"layers deep", file},
		{"inspect -s -f {{.SizeRw}} deep", "4\n"},
		{"system df --format {{.Type}}:{{.Size}}", "Containers:4B\nLocal Volumes:4B\n"},
	} {
		if output, err := withFewFiles(t, d, strings.Fields(tt.args)...); err != nil || !strings.Contains(output, tt.want) {
			t.Errorf("gocker %s: %v, and %d bytes, without %.20q…", tt.args, err, len(output), tt.want)
		}
	}
	// A copy has all folders on the way open.
	if output, err := withFewFiles(t, d, "cp", "deep:/d", "-"); err == nil || !strings.Contains(output, "ulimit -n ") {
		t.Errorf("gocker cp with 256 files = %v, without advice on ulimit -n", err)
	}
	if output := mustGocker(t, d, "cp", "deep:/d", "-"); !strings.Contains(output, file[1:]) {
		t.Errorf("gocker cp: %d bytes, without the file", len(output))
	}
	// Out, and in again.
	mustGocker(t, d, "cp", "deep:/d", host)
	if got := deepest(t, host); got != depth {
		t.Errorf("gocker cp from the container copied %d folders in each other, want %d", got, depth)
	}
	mustGocker(t, d, "cp", filepath.Join(host, "d"), "deep:/srv")
	if output := mustGocker(t, d, "diff", "deep"); !strings.Contains(output, "A /srv"+file+"\n") {
		t.Errorf("gocker cp into the container: diff has %d bytes, without the file", len(output))
	}
	for _, args := range [][]string{{"rm", "-v", "deep"}, {"volume", "rm", "deep"}} {
		if output, err := withFewFiles(t, d, args...); err != nil {
			t.Errorf("gocker %s: %v: %.200s", args, err, output)
		}
	}
}

func TestFoldersThatNestDeepBecomeALayer(t *testing.T) {
	const depth = 3000
	d := withSample(t)
	mustGocker(t, d, "create", "--name", "deep", "sample", "true")
	upper := filepath.Join(d.Container(testenv.Ls(t, d.Containers())[0]), "fs", "upperdir")
	nest(t, upper, depth)
	mustGocker(t, d, "commit", "deep", "image")
	mustGocker(t, d, "rm", "deep")
	file := "/" + strings.Repeat("d/", depth) + "file"

	// Another layer on top changes the file, and makes one more folder beside it.
	find := []string{"find", "/d", "-name", "file", "-execdir", "sh", "-c"} // a shell itself goes only where its path has room
	mustGocker(t, d, append(append([]string{"run", "--network", "none", "--name", "deep", "image"}, find...), "echo er >>file; mkdir d", ";")...)
	if output := mustGocker(t, d, "diff", "deep"); !strings.Contains(output, "C "+file+"\n") {
		t.Errorf("gocker diff: %d bytes, without the file", len(output))
	}
	mustGocker(t, d, "commit", "deep", "image:2")
	mustGocker(t, d, "rm", "deep")
	for _, command := range []string{"image layers image:2", "image hashes --verify image:2", "image save -o ARCHIVE image:2"} {
		mustGocker(t, d, strings.Fields(strings.ReplaceAll(command, "ARCHIVE", filepath.Join(d.Root, "archive")))...)
	}
	for _, image := range []string{"image:2", "image"} {
		mustGocker(t, d, "rmi", image)
	}
	mustGocker(t, d, "load", "-i", filepath.Join(d.Root, "archive"))
	output := mustGocker(t, d, append(append([]string{"run", "--rm", "--network", "none", "image:2"}, find...), "cat file; ls", ";")...)
	if output != "deeper\nd\nfile\n" {
		t.Errorf("the file after save and load, and its folder, are %q", output)
	}
	mustGocker(t, d, "rmi", "image:2")
}
