//go:build linux

package overlay

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
	"gocker/step03-layers/road"
	"gocker/step04-overlay/check"
)

var file, dir, symlink = testenv.File, testenv.Dir, testenv.Symlink

// TestMain lets the test binary be the process that dies while its container is mounted.
func TestMain(m *testing.M) {
	if root, run := os.Getenv("GOCKER_TEST_MOUNT_ROOT"), os.Getenv("GOCKER_TEST_MOUNT_RUN"); root != "" {
		d := dirs.Dirs{Root: root, Run: run}
		img, err := layers.Open(d, os.Args[1])
		var f *FS
		if err == nil {
			f, err = Create(d, img)
		}
		if err == nil {
			err = f.Mount()
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(f.ID)
		select {} // until it is killed
	}
	testenv.Alone()
	os.Exit(m.Run())
}

// unpacked is an image with its layers, as step 3 leaves it.
func unpacked(t testing.TB, d dirs.Dirs, img v1.Image) layers.Image {
	t.Helper()
	ref, err := pull.ParseReference("app")
	if err != nil {
		t.Fatal(err)
	}
	image, lock, err := pull.Save(d, ref, img, pull.Newer)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := untar.Package(d, image); err != nil {
		t.Fatal(err)
	}
	added, err := road.Add(t.Context(), d, ref, image)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

func create(t testing.TB, d dirs.Dirs, img layers.Image) *FS {
	t.Helper()
	f, err := Create(d, img)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Remove(); err != nil {
			t.Errorf("Remove = %v", err)
		}
	})
	return f
}

func mount(t testing.TB, d dirs.Dirs, img layers.Image) *FS {
	t.Helper()
	f := create(t, d, img)
	if err := f.Mount(); err != nil {
		t.Fatal(err)
	}
	return f
}

// three is an image whose layers add, update and delete.
func three(t testing.TB) v1.Image {
	return testenv.Image(t,
		testenv.Tar(t, file("a", "1"), file("b", "1"), dir("d"), file("d/x", "1"), symlink("l", "d")),
		testenv.Tar(t, file("a", "2"), file("c", "2"), file(".wh.b", "")),
		testenv.Tar(t, dir("d"), file("d/.wh..wh..opq", ""), file("d/y", "3")))
}

func TestTheMergedFilesAreWhatTheLayersSay(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	f := mount(t, d, unpacked(t, d, three(t)))
	want := ". drwxr-xr-x\na -rw-r--r-- \"2\"\nc -rw-r--r-- \"2\"\nd drwxr-xr-x\nd/y -rw-r--r-- \"3\"\nl Lrwxrwxrwx -> d\n"
	if got := testenv.Tree(t, f.Mnt()); got != want {
		t.Errorf("merged:\n%swant\n%s", got, want)
	}
}

func TestAVolatileMountIsMountedAgain(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	f := create(t, d, unpacked(t, d, three(t)))
	for _, f.Volatile = range []bool{true, true, false} {
		if err := f.Mount(); err != nil {
			t.Fatal(err)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		_, own, _ := strings.Cut(string(mounts), f.ID+"/fs/workdir,")
		options, _, _ := strings.Cut(own, "\n")
		if got := strings.Contains(options, "volatile"); err != nil || got != f.Volatile {
			t.Errorf("a mount is volatile: %t, %v; want %t", got, err, f.Volatile)
		}
		if err := f.Unmount(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangesGoToUpperdirAndTheLayersStay(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	img := unpacked(t, d, three(t))
	before := testenv.Tree(t, d.Layers())
	f := mount(t, d, img)
	if changes, err := f.Changes(); err != nil || len(changes) > 0 {
		t.Errorf("Changes of an untouched container = %v, %v; want none", changes, err)
	}
	at := func(name string) string { return filepath.Join(f.Mnt(), name) }
	if err := errors.Join(
		os.WriteFile(at("a"), []byte("changed"), 0o644),
		os.WriteFile(at("new"), nil, 0o644),
		os.Symlink("new", at("link")),
		os.Remove(at("c")),
		os.RemoveAll(at("d")), os.Mkdir(at("d"), 0o755), os.WriteFile(at("d/z"), nil, 0o644),
		os.WriteFile(at("b"), nil, 0o644), // a layer deleted it: for the container it is new
	); err != nil {
		t.Fatal(err)
	}
	changes, err := f.Changes()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%c %s: %s", c.Kind, c.Path, c.What))
	}
	want := []string{"C /a: regular file", "A /b: regular file", "D /c: character device 0/0, a whiteout", "C /d: directory, opaque",
		"D /d/y: not in an opaque directory", "A /d/z: regular file", "A /link: symbolic link", "A /new: regular file"}
	if !slices.Equal(got, want) {
		t.Errorf("Changes = %q, want %q", got, want)
	}
	if after := testenv.Tree(t, d.Layers()); after != before {
		t.Errorf("the layers are now\n%swant what they were\n%s", after, before)
	}

	for name, want := range map[string]string{
		"/a": "3 /a", "/new": "3 /new", "/link": "3 /new", "/c": "-1 /c", "/d/y": "-1 /d/y", "/l/z": "3 /d/z", "/l/../l": "3 /d", "/nothing": "-1 /nothing",
	} {
		layer, resolved, err := f.Origin(name)
		if got := fmt.Sprint(layer, " ", resolved); err != nil || got != want {
			t.Errorf("Origin(%s) = %s, %v; want %s", name, got, err, want)
		}
	}
}

func TestChangesAreNotEmptyOnlyBecauseThereIsNoProc(t *testing.T) {
	testenv.NeedMachinesRoot(t, "it takes /proc away, and below it is the machine's")
	d := testenv.Dirs(t)
	f := mount(t, d, unpacked(t, d, three(t)))
	if err := os.WriteFile(filepath.Join(f.Mnt(), "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var changes []Change
	err := check.InOwnMounts(func() (err error) {
		for err == nil {
			err = unix.Unmount("/proc", unix.MNT_DETACH)
		}
		changes, err = f.Changes()
		return err
	})
	if got, want := advice.Of(err), "mount -t proc proc /proc"; got != want {
		t.Errorf("Changes = %v, %v with the advice %q, want %q", changes, err, got, want)
	}
}

func TestOriginNamesTheLayer(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	f := create(t, d, unpacked(t, d, three(t)))
	for name, want := range map[string]string{"/a": "1 /a", "/b": "-1 /b", "/c": "1 /c", "/d": "2 /d", "/d/x": "-1 /d/x", "/l/y": "2 /d/y", "/l": "2 /d", "a": "1 /a"} {
		layer, resolved, err := f.Origin(name)
		if got := fmt.Sprint(layer, " ", resolved); err != nil || got != want {
			t.Errorf("Origin(%s) = %s, %v; want %s", name, got, err, want)
		}
	}
}

func TestTheRootLooksLikeTheTopmostLayers(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	root := func(mode int64, uid int, when time.Time) testenv.Entry {
		e := dir(".")
		e.Mode, e.Uid, e.Gid, e.ModTime = mode, uid, uid+1, when
		return e
	}
	top := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	f := mount(t, d, unpacked(t, d, testenv.Image(t,
		testenv.Tar(t, root(0o700, 1, testenv.Epoch), file("a", "")), testenv.Tar(t, root(0o1751, 1000, top)), testenv.Tar(t, file("b", "")))))
	var s unix.Stat_t
	if err := unix.Stat(f.Mnt(), &s); err != nil {
		t.Fatal(err)
	}
	if got := time.Unix(s.Mtim.Unix()); s.Mode != unix.S_IFDIR|0o1751 || s.Uid != 1000 || s.Gid != 1001 || !got.Equal(top) {
		t.Errorf("the root has mode %o, owner %d:%d, mtime %s; want 41751, 1000:1001, %s", s.Mode, s.Uid, s.Gid, got.UTC(), top)
	}
}

func TestAnImageWithoutLayersIsAnEmptyFolder(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	f := create(t, d, unpacked(t, d, testenv.Image(t)))
	defer f.Remove()
	if err := f.Mount(); err != nil {
		t.Fatal(err)
	}
	if got := testenv.Ls(t, f.Mnt()); len(got) > 0 {
		t.Errorf("in it are %q, want nothing", got)
	}
	if err := os.WriteFile(filepath.Join(f.Mnt(), "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if changes, err := f.Changes(); err != nil || len(changes) != 1 || changes[0].Path != "/a" {
		t.Errorf("Changes = %v, %v; want /a", changes, err)
	}
}

func TestFoldersMayHaveAnyName(t *testing.T) {
	testenv.NeedRoot(t)
	for _, odd := range []string{"a:b", "a,b", `a\b`, `\`, "[a", "lowerdir=x,upperdir=y", "a b\nä", `a\:b\,c\\d`} {
		d := testenv.Dirs(t)
		d = dirs.Dirs{Root: filepath.Join(d.Root, odd), Run: filepath.Join(d.Run, odd)}
		img := unpacked(t, d, three(t))
		f, err := Create(d, img)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Mount(); err != nil {
			t.Errorf("Mount below %q = %v", odd, err)
		} else if got := testenv.Ls(t, f.Mnt()); !slices.Equal(got, []string{"a", "c", "d", "l"}) {
			t.Errorf("Mount below %q has %q", odd, got)
		}
		if users, err := local.Users(d, img.ID); err != nil || !slices.Equal(users, []string{f.ID}) {
			t.Errorf("Users below %q = %q, %v, want %q", odd, users, err, f.ID)
		}
		if err := f.Remove(); err != nil {
			t.Errorf("Remove = %v", err)
		}
	}
}

func TestLayersMayBeMoreThanAPageOfOptions(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	f := create(t, d, unpacked(t, d, three(t)))
	f.Lower = nil
	for i := range 400 {
		layer := filepath.Join(t.TempDir(), "fs")
		for name, content := range map[string]string{fmt.Sprint("only-", i): "", "last": fmt.Sprint(i)} {
			if err := errors.Join(os.MkdirAll(layer, 0o755), os.WriteFile(filepath.Join(layer, name), []byte(content), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		f.Lower = append(f.Lower, layer)
	}
	if err := f.Mount(); err != nil {
		t.Fatal(err)
	}
	if got := len(f.options(f.Lower)); got < os.Getpagesize() {
		t.Errorf("the options are %d bytes, which is no test", got)
	}
	if entries := testenv.Ls(t, f.Mnt()); len(entries) != 401 {
		t.Errorf("%d files, want one of each of 400 layers and one of all", len(entries))
	}
	if last, err := os.ReadFile(filepath.Join(f.Mnt(), "last")); err != nil || string(last) != "399" {
		t.Errorf("last = %q, %v; want 399", last, err)
	}
	if got := testenv.Ls(t, f.Dir); !slices.Equal(got, []string{"fs", "image"}) {
		t.Errorf("the container's folder has %q, want fs and image", got)
	}
	if err := errors.Join(f.Unmount(), f.MountAside(func() error {
		_, err := os.Stat(filepath.Join(f.Mnt(), "last"))
		return err
	})); err != nil {
		t.Errorf("MountAside = %v", err)
	}
	f.Lower = slices.Repeat(f.Lower, 2)
	if err := f.Mount(); err == nil || !strings.Contains(err.Error(), "it has 800 layers, and overlayfs takes 500") {
		t.Errorf("Mount of 800 layers = %v, want why not", err)
	}
}

func TestMountedAsideNobodyElseSeesIt(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	f := create(t, d, unpacked(t, d, three(t)))
	if err := f.MountAside(func() error {
		if a, err := os.ReadFile(filepath.Join(f.Mnt(), "a")); err != nil || string(a) != "2" {
			t.Errorf("a = %q, %v; want 2", a, err)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || strings.Contains(string(mounts), f.Mnt()) {
			t.Errorf("the first thread sees the mount: %v", err)
		}
		return nil
	}); err != nil {
		t.Errorf("MountAside = %v", err)
	}
	if entries := testenv.Ls(t, f.Mnt()); len(entries) > 0 {
		t.Errorf("afterwards mnt has %q, want nothing", entries)
	}
}

func TestARemovedLayerIsNamed(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	img := unpacked(t, d, three(t))
	f := create(t, d, img)
	if err := os.RemoveAll(f.Lower[1]); err != nil {
		t.Fatal(err)
	}
	err := f.Mount()
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), f.Lower[1]) || !strings.Contains(advice.Of(err), "pull it again") {
		t.Errorf("Mount = %v, want the layer %q and the advice to pull it again", err, f.Lower[1])
	}
	if err := os.RemoveAll(f.Lower[2]); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(d, img); err == nil || !strings.Contains(err.Error(), f.Lower[2]) || !strings.Contains(advice.Of(err), "pull it again") {
		t.Errorf("Create without the topmost layer = %v, want its name and the advice to pull it again", err)
	}
}

func TestAnUpperdirOnAnOverlayHasAdvice(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	img := unpacked(t, d, three(t))
	inside := dirs.Dirs{Root: d.Root, Run: filepath.Join(mount(t, d, img).Mnt(), "run")}
	if err := create(t, inside, img).Mount(); !errors.Is(err, unix.EINVAL) || !strings.Contains(advice.Of(err), "--run") {
		t.Errorf("Mount = %v, advice %q; want EINVAL and to choose another --run", err, advice.Of(err))
	}
}

func TestAnImageThatAContainerUsesStays(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	img := unpacked(t, d, three(t))
	f := create(t, d, img)
	byID, err := pull.ParseReference(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := local.Remove(d, byID, false); !errors.Is(err, local.ErrInUse) || !strings.Contains(err.Error(), f.ID) {
		t.Errorf("Remove = %v, want ErrInUse by container %s", err, f.ID)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, deleted, err := local.Remove(d, byID, false); err != nil || len(deleted) != 4 {
		t.Errorf("Remove after the container is gone = %q, %v; want the image and three layers", deleted, err)
	}
	if _, err := Create(d, img); !errors.Is(err, os.ErrNotExist) || advice.Of(err) == "" {
		t.Errorf("Create of a removed image = %v, want ErrNotExist and advice", err)
	}
}

func TestRemoveTakesABusyMountAway(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	f, err := Create(d, unpacked(t, d, three(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Mount(), f.Unmount(), f.Unmount(), f.Mount()); err != nil {
		t.Errorf("Mount, Unmount twice, Mount = %v", err)
	}
	busy, err := os.Open(filepath.Join(f.Mnt(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := f.Remove(); err != nil {
		t.Errorf("Remove = %v", err)
	}
	if left := testenv.Ls(t, d.Containers()); len(left) > 0 {
		t.Errorf("containers has %q, want nothing", left)
	}
}

// killed starts a process that mounts a container, ends it with SIGKILL, and returns the container's id.
func killed(t *testing.T, d dirs.Dirs, img layers.Image) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	victim := exec.Command(self, img.ID)
	victim.Env = append(os.Environ(), "GOCKER_TEST_MOUNT_ROOT="+d.Root, "GOCKER_TEST_MOUNT_RUN="+d.Run)
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(stdout).ReadString('\n')
	id := strings.TrimSpace(said)
	if alive, openErr := Open(d, id); err == nil && !errors.Is(openErr, dirs.ErrLocked) {
		t.Errorf("Open(%q) of a living container = %v, %v; want ErrLocked", id, alive, openErr)
	}
	victim.Process.Kill()
	victim.Wait()
	if err != nil || len(id) != 12 {
		t.Fatalf("the process that mounts says %q, %v; want a container's id", said, err)
	}
	return id
}

func TestTheDeadAreRemovedAndTheLivingStay(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	img := unpacked(t, d, three(t))
	living := mount(t, d, img)
	// A later step has put something of its own here, and knows better how to end it.
	later := d.Container("later")
	if err := os.MkdirAll(filepath.Join(later, "state"), 0o755); err != nil {
		t.Fatal(err)
	}
	ids := []string{killed(t, d, img), killed(t, d, img)}
	slices.Sort(ids)
	dead := func(d dirs.Dirs, known ...string) (found []string, err error) {
		err = EachDead(d, func(f *FS) error {
			found = append(found, f.ID)
			return f.Close()
		}, known...)
		return found, err
	}
	if got, err := dead(d); err != nil || !slices.Equal(got, ids) {
		t.Errorf("EachDead has %q, %v; want %q", got, err, ids)
	}
	if err := RemoveDead(d); err != nil {
		t.Errorf("RemoveDead = %v", err)
	}
	want := []string{living.ID, "later"}
	slices.Sort(want)
	if left := testenv.Ls(t, d.Containers()); !slices.Equal(left, want) {
		t.Errorf("containers has %q, want %q", left, want)
	}
	if _, err := os.Stat(filepath.Join(living.Mnt(), "a")); err != nil {
		t.Errorf("the living container: %v", err)
	}
	if got, err := dead(d, "state"); err != nil || !slices.Equal(got, []string{"later"}) {
		t.Errorf("EachDead for whoever knows state has %q, %v; want the later step's", got, err)
	}
	if err := os.RemoveAll(later); err != nil {
		t.Error(err)
	}
	if got, err := dead(dirs.Dirs{Root: d.Root, Run: filepath.Join(d.Run, "none")}); err != nil || got != nil {
		t.Errorf("EachDead where there never was one has %q, %v; want none", got, err)
	}
}

// An ordinary machine has systemd, and so a root mount that is shared: this machine may not be one.
func TestAllHoldsWhereMountsAreShared(t *testing.T) {
	testenv.NeedRoot(t)
	const inside = "GOCKER_TEST_SHARED"
	if os.Getenv(inside) != "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	shared := exec.Command("unshare", "--mount", "--propagation", "shared", "sh", "-c",
		`grep -q '^[^ ]* [^ ]* [^ ]* [^ ]* / .* shared:' /proc/self/mountinfo && exec "$0" -test.run 'Test(TheMerged|Changes|TheDead|RemoveTakes|AnUpperdir)'`, self)
	shared.Env = append(os.Environ(), inside+"=yes")
	if out, err := shared.CombinedOutput(); err != nil {
		t.Errorf("in a mount namespace with shared propagation: %v\n%s", err, out)
	}
}

func BenchmarkMount(b *testing.B) {
	testenv.NeedRoot(b)
	d := testenv.Dirs(b)
	img := unpacked(b, d, three(b))
	for b.Loop() {
		f, err := Create(d, img)
		if err == nil {
			err = errors.Join(f.Mount(), f.Remove())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
