//go:build linux

package learn

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gocker/final/internal/learn/cage"
	"gocker/step01-pull/shared/archive"
	"gocker/step01-pull/shared/tree"
	"gocker/step02-untar/budget"
	"gocker/step03-layers/changeset"
	"gocker/step03-layers/merged"
)

// container is DIR, in Dir.
const container = "c"

// mountCases are about "P mount ROOT IMAGE DIR" and "P umount DIR". ROOT has an image as package layers makes it.
func mountCases() ([]kase, error) {
	file, dir := archive.File, archive.Dir
	a := entries{dir("d"), file("d/a", "1"), file("b", "1"), file("c", "1")}
	three := []entries{a, {file("b", "2"), file("d/.wh.a", ""), file("d/n", "2")}, {file("c", "3"), file("c3", "3")}}
	return []kase{
		mounts("mount", container, []entries{a}, nil),
		mounts("folders", container, []entries{a}, hasFolders),
		mounts("tag", container, []entries{a}, showsLayers),
		{"port", func(t *trial) error {
			t.host = registryAddress + "/"
			return mounts("", container, []entries{a}, showsLayers).try(t)
		}},
		mounts("files", container, []entries{a, {file("e", "2")}}, showsLayers),
		mounts("order", container, three, showsLayers),
		mounts("below", container, three, leavesLayers),
		mounts("write", container, three, writesAbove),
		mounts("delete", container, three, deletesAbove),
		{"umount", unmounts},
		{"stays", staysAbove},
		{"again", mountsAgain},
		{"two", mountsTwo},
		mounts("colon", "a:b,c", three, showsLayers),
		mounts("many", container, many(), showsLayers),
		{"no-image", refusesImage},
		{"no-mount", refusesUmount},
	}, nil
}

// many are more layers than a page of memory has room for their names: mount(2) reads one page.
func many() (all []entries) {
	for i := range 120 {
		all = append(all, entries{archive.File(fmt.Sprint("layer", i), fmt.Sprint(i))})
	}
	return all
}

// A laidImage is in ROOT.
type laidImage struct {
	stack merged.Stack
	dir   string
}

// lay puts an image into ROOT, beside one of another tag.
func (t *trial) lay(all []entries) (l laidImage, err error) {
	p, err := t.pack(all...)
	if err != nil {
		return l, err
	}
	if len(all) > 9 {
		t.input = []string{say("%d layers", len(all))}
	}
	image := "root/images/" + p.id
	for i, layer := range all {
		one, err := archive.Tar(layer...)
		if err != nil {
			return l, err
		}
		if err := os.MkdirAll(t.at(image, p.names[i]), 0o755); err != nil {
			return l, err
		}
		to := t.at(image, p.names[i], "fs")
		if _, err := changeset.Unpack(bytes.NewReader(one), to, func() (merged.Stack, error) { return l.stack, nil }, budget.Limits{}.Budget()); err != nil {
			return l, err
		}
		l.stack = append(l.stack, to)
	}
	other := "root/images/0123456789ab"
	return l, errors.Join(
		t.write(image+"/manifest.json", p.manifest),
		t.write(fmt.Sprintf("%s/%x.json", image, sha256.Sum256(p.config)), p.config),
		t.write(other+"/manifest.json", []byte(`[{"Config":"0123456789ab.json","RepoTags":["app:old"],"Layers":["ba9876543210.tar.gz"]}]`)),
		t.write(other+"/ba9876543210/fs/other", []byte("another image\n")),
		t.write("root/images/images.json", fmt.Appendf(nil, `{"aaa":{"v1":"0123456789ab"},%q:{"old":"0123456789ab","v1":%q}}`, t.host+imageName, p.id)),
	)
}

// mounts is a case in which an image is mounted, looked at, and unmounted.
func mounts(name, dir string, all []entries, look func(*trial, laidImage) error) kase {
	return kase{name, func(t *trial) error {
		l, err := t.lay(all)
		if err != nil {
			return err
		}
		l.dir = dir
		if err := t.mount(dir); err != nil {
			return err
		}
		if look != nil {
			if err := look(t, l); err != nil {
				return err
			}
		}
		return t.umount(dir)
	}}
}

func (t *trial) mount(dir string) error {
	if _, err := t.succeed("mount", cage.Dir+"/root", t.host+imageName+":"+imageTag, cage.Dir+"/"+dir); err != nil {
		return err
	}
	mounted, err := t.IsMounted("overlay", mnt(dir))
	if err == nil && !mounted {
		left, leftErr := t.Left()
		return errors.Join(leftErr, failed("mount", say("overlay on DIR/mnt"), say("mounts that were not there before: %s", strings.Join(left.Mounts, ", "))))
	}
	return err
}

func (t *trial) umount(dir string) error {
	if _, err := t.succeed("umount", cage.Dir+"/"+dir); err != nil {
		return failed("umount", say("P umount DIR ends with status 0"), strings.TrimSpace(t.stderr))
	}
	mounted, err := t.IsMounted("overlay", mnt(dir))
	if err == nil && mounted {
		return failed("umount", say("nothing is mounted on DIR/mnt"), say("the overlay is still there"))
	}
	return err
}

// mnt is where the overlay is, as the program sees it.
func mnt(dir string) string { return cage.Dir + "/" + dir + "/mnt" }

func hasFolders(t *trial, l laidImage) error {
	for _, name := range []string{"mnt", "upperdir", "workdir"} {
		if info, err := os.Lstat(t.at(l.dir, name)); err != nil || !info.IsDir() {
			return failed("", say("a folder %s", "DIR/"+name), folderHas(t.at(l.dir)))
		}
	}
	return nil
}

func showsLayers(t *trial, l laidImage) error {
	want, err := view(l.stack)
	if err != nil {
		return err
	}
	got, err := tree.ReadFacts(t.Inside(mnt(l.dir)))
	if err != nil {
		return err
	}
	for _, what := range []string{tree.Type, tree.Mode, tree.Owner, tree.MTime, tree.Content, tree.Xattrs, tree.Same, tree.Links} {
		delete(got, tree.Fact{Name: ".", What: what})
	}
	return differFacts(want, got, tree.Content)
}

func writesAbove(t *trial, l laidImage) error {
	if err := os.WriteFile(t.Inside(mnt(l.dir)+"/new"), []byte("new\n"), 0o644); err != nil {
		return failed("", say("a process can write to DIR/mnt"), err.Error())
	}
	if got, err := os.ReadFile(t.at(l.dir, "upperdir/new")); err != nil || string(got) != "new\n" {
		return failed("", say("the new file is in DIR/upperdir, too"), folderHas(t.at(l.dir, "upperdir")))
	}
	return nil
}

func leavesLayers(t *trial, l laidImage) error {
	before, err := view(l.stack)
	if err != nil {
		return err
	}
	for _, name := range []string{"new", "b", "c3"} {
		if err := os.WriteFile(t.Inside(mnt(l.dir)+"/"+name), []byte("changed\n"), 0o644); err != nil {
			return failed("write", say("a process can write to DIR/mnt"), err.Error())
		}
	}
	after, err := view(l.stack)
	if err != nil {
		return err
	}
	return differFacts(before, after, tree.Content)
}

func deletesAbove(t *trial, l laidImage) error {
	if err := os.Remove(t.Inside(mnt(l.dir) + "/b")); err != nil {
		return failed("", say("a process can remove a file of a layer"), err.Error())
	}
	if _, err := os.Lstat(t.Inside(mnt(l.dir) + "/b")); !errors.Is(err, fs.ErrNotExist) {
		return failed("", say("the file is gone"), say("it is still there"))
	}
	if info, err := os.Lstat(t.at(l.dir, "upperdir/b")); err != nil || !merged.IsWhiteout(info) {
		return failed("", say("a whiteout in DIR/upperdir"), folderHas(t.at(l.dir, "upperdir")))
	}
	return nil
}

// begun mounts an image of two layers, and writes a file.
func (t *trial) begun() (l laidImage, err error) {
	if l, err = t.lay([]entries{{archive.File("a", "1")}, {archive.File("b", "2")}}); err != nil {
		return l, err
	}
	l.dir = container
	if err = t.mount(container); err == nil {
		err = os.WriteFile(t.Inside(mnt(container)+"/new"), []byte("new\n"), 0o644)
	}
	return l, err
}

func unmounts(t *trial) error {
	if _, err := t.begun(); err != nil {
		return err
	}
	return t.umount(container)
}

func staysAbove(t *trial) error {
	if _, err := t.begun(); err != nil {
		return err
	}
	if err := t.umount(container); err != nil {
		return err
	}
	if got, err := os.ReadFile(t.at(container, "upperdir/new")); err != nil || string(got) != "new\n" {
		return failed("", say("the new file is still in DIR/upperdir"), folderHas(t.at(container, "upperdir")))
	}
	return nil
}

func mountsAgain(t *trial) error {
	if err := staysAbove(t); err != nil {
		return err
	}
	if err := t.mount(container); err != nil {
		return err
	}
	if got, err := os.ReadFile(t.Inside(mnt(container) + "/new")); err != nil || string(got) != "new\n" {
		return failed("", say("the file of the first time is there"), folderHas(t.Inside(mnt(container))))
	}
	return t.umount(container)
}

func mountsTwo(t *trial) error {
	if _, err := t.begun(); err != nil {
		return err
	}
	const second = "c2"
	if err := t.mount(second); err != nil {
		return err
	}
	if _, err := os.Lstat(t.Inside(mnt(second) + "/new")); !errors.Is(err, fs.ErrNotExist) {
		return failed("", say("what one container writes, the other does not see"), say("the file is in both"))
	}
	if err := t.umount(container); err != nil {
		return err
	}
	if mounted, err := t.IsMounted("overlay", mnt(second)); err != nil || !mounted {
		return errors.Join(err, failed("", say("the other one is still mounted"), say("it is not")))
	}
	return t.umount(second)
}

func refusesImage(t *trial) error {
	if _, err := t.lay([]entries{{archive.File("a", "1")}}); err != nil {
		return err
	}
	return t.refuses(say("an error, a status that is not 0, and no folder DIR"), container, "mount", cage.Dir+"/root", "nothing:v1", cage.Dir+"/"+container)
}

func refusesUmount(t *trial) error {
	return t.refuses(say("an error, and a status that is not 0"), "", "umount", cage.Dir+"/"+container)
}

// refuses runs the program for what cannot be done. There must be no such file afterwards.
func (t *trial) refuses(want, no string, args ...string) error {
	o, err := t.run(args...)
	if err != nil {
		return err
	}
	_, statErr := os.Lstat(filepath.Join(t.at(), no))
	switch {
	case o.Status == 0 && o.Stderr != "":
		return failed("status-0", want, say("status %d", 0))
	case o.Status == 0:
		return failed("", want, say("status %d", 0))
	case no != "" && statErr == nil:
		return failed("", want, say("a folder %s", cage.Dir+"/"+no))
	case strings.TrimSpace(o.Stderr) == "":
		return failed("silent", say("a message on standard error"), say("status %d, and no word", o.Status))
	}
	return nil
}
