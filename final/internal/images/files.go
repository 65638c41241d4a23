//go:build linux

package images

import (
	"archive/tar"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"gocker/step01-pull/pull"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
	"gocker/step04-overlay/overlay"
)

// A FileHistory is what the layers of an image did to one name.
type FileHistory struct {
	Path    string // "/etc/motd"
	Changes []FileChange
}

// Layer is the number of the layer that the name comes from, 0 where it is deleted.
func (h FileHistory) Layer() int {
	last := h.Changes[len(h.Changes)-1]
	if last.Kind == "deleted" {
		return 0
	}
	return last.Layer
}

// A FileChange is what one layer did to a name.
type FileChange struct {
	Layer int    // 1 is the lowest
	Kind  string // added, updated, deleted
	Type  string // the first letter of ls -l: -, d, l, …; "" if it is deleted
	Size  int64  // bytes of a file
}

// A LayerContent is what one layer did in all, compared with the layers below.
type LayerContent struct {
	layers.Layer
	CreatedBy string // of the image's history
	Hidden    int64  // bytes of files that layers above update or delete: they are sent and stored, and nobody sees them
}

// Files returns what the layers of an image did to a name and to all below it, sorted. Links in the name are followed as a
// container would.
func (s Store) Files(ref pull.Reference, name string) ([]FileHistory, error) {
	img, err := s.Open(ref)
	if err != nil {
		return nil, err
	}
	stack := img.Stack(s.Dirs)
	histories, err := walkLayers(stack)
	if err != nil {
		return nil, err
	}
	name = path.Join("/", name)
	if _, ok := histories[name]; !ok {
		// The last part may be a link itself, and that is what is asked for.
		dir, err := stack.Resolve(path.Dir(name))
		if err != nil {
			return nil, err
		}
		name = path.Join("/", dir, path.Base(name))
	}
	var found []FileHistory
	for _, at := range slices.Sorted(maps.Keys(histories)) {
		if at == name || name == "/" || strings.HasPrefix(at, name+"/") {
			found = append(found, *histories[at])
		}
	}
	if found == nil {
		return nil, &fs.PathError{Op: "find in any layer of " + ref.String(), Path: name, Err: fs.ErrNotExist}
	}
	return found, nil
}

// Contents returns what each layer of an image did, the lowest first.
func (s Store) Contents(ref pull.Reference) ([]LayerContent, error) {
	img, err := s.Open(ref)
	if err != nil {
		return nil, err
	}
	histories, err := walkLayers(img.Stack(s.Dirs))
	if err != nil {
		return nil, err
	}
	contents := make([]LayerContent, len(img.Layers))
	for i, layer := range img.Layers {
		contents[i].Layer = layer
	}
	for _, h := range histories {
		for i, change := range h.Changes {
			if i < len(h.Changes)-1 {
				contents[change.Layer-1].Hidden += change.Size
			}
		}
	}
	steps, err := s.History(ref)
	for _, step := range steps {
		for i := range contents {
			if step.Layer.ChainID == contents[i].ChainID {
				contents[i].CreatedBy = step.CreatedBy
			}
		}
	}
	return contents, err
}

// walkLayers goes through all layers from the lowest up.
func walkLayers(stack merged.Stack) (map[string]*FileHistory, error) {
	w := layerWalk{stack: stack, all: map[string]*FileHistory{}, below: map[string]map[string]bool{}, last: map[string]int{}}
	for i, folder := range stack {
		w.layer = i + 1
		info, err := os.Lstat(folder)
		if err == nil {
			err = w.visit("/", folder, info)
		}
		if err == nil {
			err = overlay.Walk(folder, func(name, file string, info fs.FileInfo) error { return w.visit("/"+name, file, info) })
		}
		if err != nil {
			return nil, err
		}
	}
	return w.all, nil
}

// A layerWalk knows what the layers up to one did.
type layerWalk struct {
	stack merged.Stack
	layer int
	all   map[string]*FileHistory
	below map[string]map[string]bool // folder -> all names that ever were in it
	last  map[string]int             // name -> the topmost layer that has it, in stack
}

// visit takes one file of the layer. Folders come before what is in them.
func (w *layerWalk) visit(name, file string, info fs.FileInfo) error {
	if merged.IsWhiteout(info) {
		w.delete(name)
		return nil
	}
	below, opaque := w.last[name], merged.IsOpaque(file)
	w.last[name] = w.layer - 1
	h, ok := w.all[name]
	if ok && h.Layer() != 0 && info.IsDir() && !opaque {
		// A folder is in the layer also where only something in it is new.
		old, done := merged.At(w.stack[below], name[1:])
		same, err := IsSame(old, file, isAsOld)
		done()
		if same || err != nil {
			return err
		}
	}
	if !info.IsDir() || opaque {
		for child := range w.below[name] {
			w.delete(child)
		}
	}
	change := FileChange{Layer: w.layer, Kind: "added", Type: info.Mode().Type().String()[:1]}
	if info.Mode().IsRegular() {
		change.Size = info.Size()
	}
	if !ok {
		h = &FileHistory{Path: name}
		w.all[name] = h
		dir := path.Dir(name)
		if w.below[dir] == nil {
			w.below[dir] = map[string]bool{}
		}
		if name != "/" {
			w.below[dir][name] = true
		}
	} else if h.Layer() != 0 {
		change.Kind = "updated"
	}
	h.Changes = append(h.Changes, change)
	return nil
}

// IsSame compares two files on disk.
func IsSame(a, b string, as func(one, other *tar.Header) bool) (bool, error) {
	one, err := merged.Header(a)
	if err != nil {
		return false, err
	}
	other, err := merged.Header(b)
	if err != nil {
		return false, err
	}
	return as(one, other), nil
}

func isAsOld(one, other *tar.Header) bool {
	return IsAs(one, other) && one.ModTime.Equal(other.ModTime)
}

// IsAs compares all but names, times and contents.
func IsAs(one, other *tar.Header) bool {
	return one.Typeflag == other.Typeflag && one.Mode == other.Mode && one.Uid == other.Uid && one.Gid == other.Gid &&
		maps.Equal(one.PAXRecords, other.PAXRecords)
}

// delete notes that the layer hides a name and all below it.
func (w *layerWalk) delete(name string) {
	for child := range w.below[name] {
		w.delete(child)
	}
	if h, ok := w.all[name]; ok && h.Layer() != 0 {
		h.Changes = append(h.Changes, FileChange{Layer: w.layer, Kind: "deleted"})
	}
}
