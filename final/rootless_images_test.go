//go:build linux

package main

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/randomimage"
)

// The same images are the same files for a user as for root, owners too, but for device nodes.
func TestAUserUnpacksImagesAsRootDoes(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	folder := func(name string) string {
		dir := filepath.Join(u.Home, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, testenv.UserID, testenv.UserID)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	images, users, roots := folder("images"), folder("users"), folder("roots")
	const count = 100
	for seed := range uint64(count) {
		layers, _ := randomimage.New(seed)
		for i, layer := range layers {
			layers[i] = forUser(layer)
		}
		tag, err := name.NewTag("random:latest")
		if err == nil {
			err = tarball.WriteToFile(filepath.Join(images, fmt.Sprint(seed)), tag, randomimage.Image(t, layers))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	unpack := fmt.Sprintf(`for n in $(seq 0 %d); do
	gocker load -q -i images/$n >log 2>&1 && id=$(gocker create --network none random true) && gocker export -o $TO/$n $id && gocker rm $id >>log && gocker rmi random >>log ||
		{ echo "image $n"; cat log; exit 1; }
done`, count-1)
	asUser(t, u, "TO=users\n"+unpack)
	root := exec.Command("sh", "-c", "TO=roots\n"+unpack)
	root.Dir = u.Home
	root.Env = append(os.Environ(), "BE=gocker", "PATH="+u.Home+":"+os.Getenv("PATH"), "GOCKER_ROOT="+t.TempDir(), "GOCKER_RUN="+t.TempDir())
	if out, err := root.CombinedOutput(); err != nil {
		t.Fatalf("as root: %v:\n%s", err, out)
	}
	for n := range count {
		got, want := filesOf(t, filepath.Join(users, fmt.Sprint(n))), filesOf(t, filepath.Join(roots, fmt.Sprint(n)))
		for _, file := range got {
			if !slices.Contains(want, file) {
				t.Errorf("image %d: the user has %s, and root does not", n, file)
			}
		}
		if len(got) != len(want) {
			t.Errorf("image %d: the user has %d files, root %d", n, len(got), len(want))
		}
	}
}

// A layer has a hard link to a device that a layer below has left out: the link is left out and said, too.
func TestALinkToADeviceThatAUserCannotMakeIsLeftOut(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	disk := testenv.Entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Devmajor: 8, Mode: 0o600}}
	img := randomimage.Image(t, [][]testenv.Entry{
		{disk, testenv.File("kept", "a")}, {testenv.Link("second", "disk")}, {testenv.Link("third", "second"), testenv.File("disk", "b")}, {testenv.Link("fourth", "disk")},
	})
	tag, err := name.NewTag("linked:latest")
	if err == nil {
		err = tarball.WriteToFile(filepath.Join(u.Home, "image"), tag, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := asUser(t, u, `gocker load -i image 2>&1 && gocker system check && gocker export $(gocker create --network none linked true) | tar t | grep -v /`)
	testenv.InOrder(t, out, `left out device "disk"`, `left out device "second"`, `left out device "third"`, "are as they should be\n", "disk\n", "fourth\n", "kept\n")
	if strings.Contains(out, "fourth\"") {
		t.Errorf("a link to a file that has replaced a device is left out:\n%s", out)
	}
}

// forUser changes a random layer so that a user can have it: no file may belong to an id that is not the user's.
func forUser(layer []testenv.Entry) (changed []testenv.Entry) {
	for _, e := range layer {
		e.Uid, e.Gid = e.Uid%testenv.SubIDs, e.Gid%testenv.SubIDs
		changed = append(changed, e)
	}
	return changed
}

// filesOf lists what is in an archive, but for device nodes and hard links to them.
func filesOf(t *testing.T, archive string) (all []string) {
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	devices := map[string]bool{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		sum := sha256.New()
		if err == nil {
			_, err = io.Copy(sum, r)
		}
		if err != nil {
			t.Fatalf("read %s: %v", archive, err)
		}
		if h.Name == "./" || strings.HasPrefix(h.Name, "etc/") { // in which export makes places for mounts
			h.ModTime = time.Time{}
		}
		if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
			devices[h.Name] = true
		} else if h.Typeflag != tar.TypeLink || !devices[h.Linkname] {
			all = append(all, fmt.Sprintf("%c %q %o %d:%d %q %d %x", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.Linkname, h.ModTime.UnixNano(), sum.Sum(nil)))
		}
	}
}
