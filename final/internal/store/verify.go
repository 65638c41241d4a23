//go:build linux

package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"time"

	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/changeset"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
	"gocker/step04-overlay/overlay"
)

// VerifyImage looks at all that images/{image} has: manifest.json, the config, and the links to the layers, which it
// returns with diffID and chainID only. Each fault is told in a line; files that final keeps there do not count.
func VerifyImage(d dirs.Dirs, image string) (unverified []layers.Layer, wrong []string) {
	manifest, config, raw, err := layers.ReadManifest(d.Image(image), image)
	if err != nil {
		return nil, []string{err.Error()}
	}
	if name := fmt.Sprintf("%x", sha256.Sum256(raw)) + ".json"; !isFile(filepath.Join(d.Image(image), name)) {
		wrong = append(wrong, fmt.Sprintf("the config is not in %q", name))
	}
	if img, err := layers.Open(d, image); err == nil {
		if s, err := Summarize(d, image); err != nil || !reflect.DeepEqual(s, summary(img)) {
			wrong = append(wrong, "summary.json says something else than the config and the layers")
		}
	}
	names := layers.Names(manifest)
	for i, chainID := range layers.ChainIDs(config.RootFS.DiffIDs) {
		unverified = append(unverified, layers.Layer{Changeset: changeset.Changeset{DiffID: config.RootFS.DiffIDs[i].String()}, ChainID: "sha256:" + chainID})
		want := filepath.Join("..", "..", "layers", chainID)
		if target, err := os.Readlink(filepath.Join(d.Image(image), names[i])); err != nil {
			wrong = append(wrong, err.Error())
		} else if target != want {
			wrong = append(wrong, fmt.Sprintf("the link %q leads to %q, and the layer is %q", names[i], target, want))
		}
	}
	return unverified, wrong
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// A Verified layer is one that was compared with its blob. Close it once the layers above are compared too.
type Verified struct {
	FS    string   // its files: those in the store, or if they are wrong, those of the blob
	Wrong []string // what differs from the blob, a line each: what, and how

	partial *dirs.Partial
}

// Close removes what was unpacked for comparison.
func (v Verified) Close() {
	if v.partial != nil {
		v.partial.Discard()
	}
}

// Verify recomputes from its blob all that is known of a layer with this diffID and chainID, and unpacks the blob once
// more beside the layer to compare the files: names, types, contents, modes, owners, times, xattrs, whiteouts. below are
// the layers below, verified.
func Verify(d dirs.Dirs, layer layers.Layer, below merged.Stack) (v Verified, err error) {
	v.FS = layers.Files(d, layer.ChainID)
	blob, err := os.Open(filepath.Join(filepath.Dir(v.FS), "blob"))
	if errors.Is(err, os.ErrNotExist) {
		v.Wrong = []string{"blob is missing"}
		return v, nil
	}
	if err != nil {
		return v, err
	}
	defer blob.Close()
	partial, err := dirs.NewPartial(d.Layers())
	if err != nil {
		return v, err
	}
	defer func() {
		if v.partial == nil {
			partial.Discard()
		}
	}()
	fresh := filepath.Join(partial.Path, "fs")
	again, err := changeset.Unpack(blob, fresh, func() (merged.Stack, error) { return below, nil }, budget.None.Budget())
	if errors.Is(err, untar.ErrArchive) {
		v.Wrong = []string{"blob cannot be unpacked: " + err.Error()}
		return v, nil
	}
	if err != nil {
		return v, err
	}
	if v.Wrong, err = compare(d, layer, layers.Layer{Changeset: again, ChainID: layer.ChainID}, fresh); err == nil && len(v.Wrong) > 0 {
		v.FS, v.partial = fresh, partial
	}
	return v, err
}

// compare compares a layer of the store with what its blob has given a moment ago.
func compare(d dirs.Dirs, layer, again layers.Layer, fresh string) (wrong []string, err error) {
	if again.DiffID != layer.DiffID {
		wrong = append(wrong, fmt.Sprintf("blob has the diffID %s, the config says %s", again.DiffID, layer.DiffID))
	}
	known, err := layers.ReadLayer(d, layer.ChainID)
	if err != nil {
		return append(wrong, err.Error()), nil
	}
	again.LeftOut = ""
	if known != again {
		wrong = append(wrong, fmt.Sprintf("layer.json says %s, the blob %s", jsonLine(known), jsonLine(again)))
	}
	different, err := differences(fresh, layers.Files(d, layer.ChainID))
	return append(wrong, different...), err
}

func jsonLine(layer layers.Layer) string {
	raw, _ := json.Marshal(layer) // numbers and strings: there is nothing to fail
	return string(raw)
}

// differences compares the files of two folders. Folders of which the archive says nothing may have any time: older gockers
// gave them that of the moment.
func differences(want, got string) (wrong []string, err error) {
	all, err := attributes(want)
	if err != nil {
		return nil, err
	}
	here, err := attributes(got)
	if err != nil {
		return nil, err
	}
	names := maps.Clone(all)
	maps.Copy(names, here)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w, g := all[name], here[name]
		at := fmt.Sprintf("%q ", filepath.Join("fs", name))
		if g == nil {
			wrong = append(wrong, at+"is missing")
			continue
		}
		if w == nil {
			wrong = append(wrong, at+"is not in the blob")
			continue
		}
		if w.dir && w.modTime.Equal(changeset.NoTime) {
			delete(g.is, modTime)
			delete(w.is, modTime)
		}
		keys := maps.Clone(w.is)
		maps.Copy(keys, g.is)
		same := true
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if w.is[key] != g.is[key] {
				wrong = append(wrong, at+fmt.Sprintf("has the %s %q, the blob %q", key, g.is[key], w.is[key]))
				same = same && key != fileType && key != fileSize
			}
		}
		if w.regular && same {
			equal, err := sameContent(want, got, name)
			if err != nil {
				return nil, err
			}
			if !equal {
				wrong = append(wrong, at+"has other contents than in the blob")
			}
		}
	}
	return wrong, nil
}

// Attributes are known by these names.
const (
	fileType = "type"
	fileSize = "size"
	modTime  = "time"
)

// A found file is what can be told of one without reading it.
type found struct {
	is      map[string]string
	regular bool
	dir     bool
	modTime time.Time
}

// attributes describes all files below a folder, and the folder itself.
func attributes(dir string) (map[string]*found, error) {
	files := map[string]*found{}
	first := map[uint64]string{} // inode -> the first of its names
	visit := func(name, path string, info fs.FileInfo) (err error) {
		stat := info.Sys().(*syscall.Stat_t)
		f := &found{regular: info.Mode().IsRegular(), dir: info.IsDir(), modTime: info.ModTime()}
		files[name] = f
		f.is = map[string]string{
			fileType: info.Mode().Type().String()[:1],
			"mode":   fmt.Sprintf("%04o", stat.Mode&0o7777),
			"owner":  fmt.Sprintf("%d:%d", stat.Uid, stat.Gid),
		}
		switch mode := info.Mode(); {
		case f.regular:
			f.is[fileSize] = fmt.Sprint(info.Size())
		case mode&fs.ModeSymlink != 0:
			if f.is["target"], err = os.Readlink(path); err != nil {
				return err
			}
		case mode&fs.ModeDevice != 0:
			f.is["device"] = fmt.Sprintf("%d/%d", stat.Rdev>>8, stat.Rdev&0xff)
		}
		if !merged.IsWhiteout(info) {
			f.is[modTime] = info.ModTime().UTC().Format(time.RFC3339Nano)
		}
		if !info.IsDir() && stat.Nlink > 1 {
			if first[stat.Ino] == "" {
				first[stat.Ino] = name
			}
			f.is["first of its names"] = first[stat.Ino]
		}
		attrs, err := merged.Xattrs(path)
		for key, value := range attrs {
			f.is["xattr "+key] = value
		}
		return err
	}
	info, err := os.Lstat(dir)
	if err == nil {
		err = visit(".", dir, info)
	}
	if err == nil {
		err = overlay.Walk(dir, visit)
	}
	return files, err
}

// sameContent compares a file of two folders.
func sameContent(want, got, name string) (bool, error) {
	a, done := merged.At(want, name)
	defer done()
	b, done := merged.At(got, name)
	defer done()
	one, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer one.Close()
	other, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer other.Close()
	p, q := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(one, p)
		m, errB := io.ReadFull(other, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return true, nil
			}
			if err != nil {
				return false, err
			}
		}
	}
}
