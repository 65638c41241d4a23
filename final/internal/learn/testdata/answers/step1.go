// An answer for step 1: P pull REFERENCE FILE.
package main

import (
	"archive/tar"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func pull(reference, file string) (err error) {
	defer catch(&err)
	ref := must(name.ParseReference(reference))
	img := must(crane.Pull(ref.Name(), crane.WithPlatform(&v1.Platform{OS: "linux", Architecture: runtime.GOARCH})))
	// Another name first: a reader of FILE finds all of it, or what was there before.
	f := must(os.CreateTemp(filepath.Dir(file), ".partial-"))
	defer os.Remove(f.Name())
	save(img, ref, f)
	check(f.Sync())
	check(os.Rename(f.Name(), file))
	return nil
}

// save writes what docker save would: the config, the layers, and manifest.json, which names them.
func save(img v1.Image, ref name.Reference, to io.Writer) {
	w := tar.NewWriter(to)
	config := must(img.RawConfigFile())
	id := must(img.ConfigName()).String()
	add(w, id, config)
	var names []string
	for _, layer := range must(img.Layers()) {
		file := must(layer.Digest()).Hex + ".tar.gz"
		if !slices.Contains(names, file) {
			add(w, file, must(io.ReadAll(must(layer.Compressed())))) // this checks the digest
		}
		names = append(names, file)
	}
	manifest := []map[string]any{{"Config": id, "RepoTags": []string{ref.Name()}, "Layers": names}}
	add(w, "manifest.json", must(json.Marshal(manifest)))
	check(w.Close())
}

func add(w *tar.Writer, name string, content []byte) {
	check(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	must(w.Write(content))
}
