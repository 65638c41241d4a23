//go:build linux

package learn

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"gocker/final/internal/learn/cage"
	"gocker/step01-pull/shared/archive"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/tree"
	"gocker/step02-untar/budget"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/changeset"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
)

type entries []archive.Entry

// layersCases are about "P layers DIR ROOT". What overlayfs would show of the layers is compared with what it shows of
// those that package changeset makes.
func layersCases() ([]kase, error) {
	file, dir, symlink, link := archive.File, archive.Dir, archive.Symlink, archive.Link
	with := func(e archive.Entry, mode int64, uid, gid int) archive.Entry {
		e.Mode, e.Uid, e.Gid = mode, uid, gid
		return e
	}
	old := time.Date(1999, 7, 20, 20, 17, 40, 0, time.UTC)
	at := func(e archive.Entry, when time.Time) archive.Entry {
		e.ModTime = when
		return e
	}
	a := entries{dir("d"), file("d/a", "1"), file("b", "1")}
	content := []string{tree.Content}
	return []kase{
		lays("id", content, entries{}),
		lays("config", content, a),
		lays("manifest", content, a),
		lays("layer", content, a, entries{file("d/c", "2")}),
		lays("content", content, a, entries{file("d/a", "2"), file("e", "2")}, entries{file("f", "3")}),
		lays("names", content, a),
		{"port", namesPort},
		{"keep", keepsNames},
		lays("twice", content, a, entries{file("b", "2")}, a),
		lays("whiteout", content, a, entries{file("d/.wh.a", ""), file(".wh.b", ""), file("c", "2")}),
		needsOpaque(lays("opaque", content, a, entries{dir("d"), file("d/.wh..wh..opq", ""), file("d/new", "2")})),
		needsOpaque(lays("replaced", content, a, entries{file(".wh.d", ""), dir("d"), file("d/new", "2")})),
		lays("absolute-link", content, entries{symlink("sh", "/usr/bin/dash"), symlink("up", "../../etc"), dir("usr"), file("usr/x", "1")}),
		lays("hard-link-below", content, a, entries{link("again", "d/a")}),
		needsIDs(lays("mode", []string{tree.Mode, tree.Owner}, entries{with(file("su", "1"), 0o4755, 1000, 100), with(dir("tmp"), 0o1777, 0, 0)})),
		lays("time", []string{tree.MTime}, entries{at(dir("d"), old), file("d/a", "1"), at(dir("d/e"), old), file("d/e/f", "2")}),
		needsIDs(lays("left-out", []string{tree.Mode, tree.Owner}, entries{with(dir("d"), 0o700, 7, 8)}, entries{file("d/a", "2")})),
		{"through", func(t *trial) error {
			return t.refuseLayer(entries{symlink("a", cage.Dir+"/outside"), file("a/secret", "led out\n")}, nil)
		}},
		{"wrong-layer", func(t *trial) error {
			other, err := archive.Tar(file("other", "1"))
			if err != nil {
				return err
			}
			return t.refuseLayer(a, compressed(other))
		}},
		{"half", func(t *trial) error { return t.refuseLayer(a, []byte("no layer")) }},
	}, nil
}

// needsOpaque is a case with an opaque folder.
func needsOpaque(c kase) kase {
	return kase{c.name, func(t *trial) error {
		if errors.Is(unix.Setxattr(t.at(), merged.OpaqueXattr(), []byte("n"), 0), unix.ENOTSUP) {
			return &skipped{say("a user's opaque folders in memory need Linux 6.6")}
		}
		return c.try(t)
	}}
}

// An unpacked package, as step 2 makes it.
type unpackedPackage struct {
	id       string // {image}
	manifest []byte
	config   []byte
	names    []string // {layer}
	want     merged.Stack
}

const imageName, imageTag = "app", "v1"

// lays is a case in which the layers of an image are laid out. All is looked at, up to what the case is about.
func lays(name string, facts []string, all ...entries) kase {
	return kase{name, func(t *trial) error {
		p, err := t.pack(all...)
		if err != nil {
			return err
		}
		if _, err := t.succeed("layers", cage.Dir+"/package", cage.Dir+"/root"); err != nil {
			return err
		}
		return t.laid(p, facts)
	}}
}

// pack makes DIR of an image, and what its layers are to become.
func (t *trial) pack(all ...entries) (p unpackedPackage, err error) {
	var archives [][]byte
	for i, layer := range all {
		one, err := archive.Tar(layer...)
		if err != nil {
			return p, err
		}
		archives = append(archives, one)
		t.input = append(t.input, say("layer %d:", i+1))
		for _, line := range list(one) {
			t.input = append(t.input, "  "+line)
		}
	}
	img, err := archive.Image(archives...)
	if err != nil {
		return p, err
	}
	if err := errors.Join(os.MkdirAll(t.at("package"), 0o755), os.MkdirAll(t.at("root"), 0o755)); err != nil {
		return p, err
	}
	file := t.Path("aside", packed)
	if err := crane.SaveLegacy(img, t.host+imageName+":"+imageTag, file); err != nil {
		return p, err
	}
	if err := untar.Extract(file, t.at("package")); err != nil {
		return p, err
	}
	if err := p.describe(img, t.at("package")); err != nil {
		return p, err
	}
	for i, one := range archives {
		fs := t.Path("aside", fmt.Sprint("layer", i))
		if _, err := changeset.Unpack(bytes.NewReader(one), fs, func() (merged.Stack, error) { return p.want, nil }, budget.Limits{}.Budget()); err != nil {
			return p, nil // the program is to refuse it, too
		}
		p.want = append(p.want, fs)
	}
	return p, nil
}

func (p *unpackedPackage) describe(img v1.Image, folder string) error {
	name, err := img.ConfigName()
	if err != nil {
		return err
	}
	p.id = dirs.Short(name.Hex)
	if p.config, err = img.RawConfigFile(); err != nil {
		return err
	}
	if p.manifest, err = os.ReadFile(filepath.Join(folder, "manifest.json")); err != nil {
		return err
	}
	var all []tarball.Descriptor
	if err := json.Unmarshal(p.manifest, &all); err != nil {
		return err
	}
	p.names = layers.Names(all[0])
	return nil
}

// laid compares what the program made with what it should have made.
func (t *trial) laid(p unpackedPackage, facts []string) error {
	image := t.at("root/images", p.id)
	if _, err := os.Lstat(image); err != nil {
		return failed("id", say("a folder %s", "ROOT/images/"+p.id), folderHas(t.at("root/images")))
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256(p.config))
	if got, err := os.ReadFile(filepath.Join(image, name)); err != nil || !bytes.Equal(got, p.config) {
		return failed("config", say("%s, as it was in DIR", name), folderHas(image))
	}
	if got, err := os.ReadFile(filepath.Join(image, "manifest.json")); err != nil || !bytes.Equal(got, p.manifest) {
		return failed("manifest", say("%s, as it was in DIR", "manifest.json"), folderHas(image))
	}
	var stack merged.Stack
	for _, layer := range p.names {
		fs := filepath.Join(image, layer, "fs")
		if info, err := os.Stat(fs); err != nil || !info.IsDir() {
			text := "layer"
			if strings.Contains(layer, "-") {
				text = "twice"
			}
			return failed(text, say("a folder %s", "ROOT/images/"+p.id+"/"+layer+"/fs"), folderHas(image))
		}
		stack = append(stack, fs)
	}
	if err := t.named(p.id, nil); err != nil {
		return err
	}
	want, err := view(p.want)
	if err != nil {
		return err
	}
	got, err := view(stack)
	if err != nil {
		return err
	}
	return differFacts(want, got, facts...)
}

// named looks into images.json, which may have others, too.
func (t *trial) named(id string, others map[string]map[string]string) error {
	want := map[string]map[string]string{t.host + imageName: {imageTag: id}}
	maps.Copy(want, others)
	raw, err := os.ReadFile(t.at("root/images/images.json"))
	var got map[string]map[string]string
	if err == nil {
		err = json.Unmarshal(raw, &got)
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		wanted, _ := json.Marshal(want) // a map of strings
		return failed("names", "images.json: "+string(wanted), fmt.Sprintf("images.json: %s", bytes.TrimSpace(raw)))
	}
	return nil
}

func namesPort(t *trial) error {
	t.host = registryAddress + "/"
	return itself(lays("", nil, entries{archive.File("a", "1")}).try(t))
}

// itself has a failure told by the text of the case, and not by that of another.
func itself(err error) error {
	var wrong *failure
	if errors.As(err, &wrong) {
		wrong.text = ""
	}
	return err
}

func keepsNames(t *trial) error {
	p, err := t.pack(entries{archive.File("a", "1")})
	if err != nil {
		return err
	}
	if err := t.write("root/images/images.json", []byte(`{"other":{"latest":"0123456789ab"}}`)); err != nil {
		return err
	}
	if _, err := t.succeed("layers", cage.Dir+"/package", cage.Dir+"/root"); err != nil {
		return err
	}
	return itself(t.named(p.id, map[string]map[string]string{"other": {"latest": "0123456789ab"}}))
}

// refuseLayer has the program read a layer that is not what the config says, or that leads out.
func (t *trial) refuseLayer(list entries, instead []byte) error {
	p, err := t.pack(list)
	if err != nil {
		return err
	}
	if err := t.write("outside/secret", []byte("keep out\n")); err != nil {
		return err
	}
	if instead != nil {
		files, err := filepath.Glob(t.at("package/*.tar.gz"))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("the package has the layers %q, %v", files, err)
		}
		if err := os.WriteFile(files[0], instead, 0o644); err != nil {
			return err
		}
		t.input = []string{say("the layer is another file than the config says")}
	}
	before, err := t.snapshot("root")
	if err != nil {
		return err
	}
	o, err := t.run("layers", cage.Dir+"/package", cage.Dir+"/root")
	if err != nil {
		return err
	}
	after, err := t.snapshot("root")
	if err != nil {
		return err
	}
	refused := say("an error, a status that is not 0, and no image in ROOT")
	_, statErr := os.Lstat(t.at("root/images", p.id))
	_, namesErr := os.Lstat(t.at("root/images/images.json"))
	left, err := filepath.Glob(t.at("root/images/*"))
	changed := changes(before, after)
	switch {
	case err != nil:
		return err
	case changed != "":
		return failed("", refused, say("it changed files outside of ROOT:")+"\n"+changed)
	case o.Status == 0 && statErr != nil:
		return failed("status-0", refused, say("status %d", 0))
	case o.Status == 0:
		return failed("", refused, say("status %d, and %s", 0, say("a folder %s", "ROOT/images/"+p.id)))
	case statErr == nil || namesErr == nil || len(left) > 0:
		return failed("half", refused, say("status %d, and %s", o.Status, folderHas(t.at("root/images"))))
	case strings.TrimSpace(o.Stderr) == "":
		return failed("silent", say("a message on standard error"), say("status %d, and no word", o.Status))
	}
	return nil
}

// folderHas says what is in a folder.
func folderHas(folder string) string {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return say("there is no such folder")
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return say("the folder has: %s", strings.Join(names, ", "))
}

// view is what overlayfs shows of layers.
func view(stack merged.Stack) (tree.Facts, error) {
	var each []tree.Facts
	for _, layer := range stack {
		facts, err := tree.ReadFacts(layer)
		if err != nil {
			return nil, err
		}
		each = append(each, facts)
	}
	shown := tree.Facts{}
	var walk func(dir string)
	walk = func(dir string) {
		for _, name := range stack.Names(dir) {
			name = filepath.Join(dir, name)
			i, info := stack.Find(name)
			for _, what := range []string{tree.Type, tree.Mode, tree.Owner, tree.MTime, tree.Content} {
				if value, ok := each[i][tree.Fact{Name: name, What: what}]; ok {
					shown[tree.Fact{Name: name, What: what}] = value
				}
			}
			if info.Mode()&fs.ModeDir != 0 {
				walk(name)
			}
		}
	}
	walk(".")
	return shown, nil
}
