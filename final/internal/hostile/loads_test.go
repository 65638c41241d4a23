//go:build linux

package hostile

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"gocker/step01-pull/shared/testenv"
)

// A saved image is what docker save writes: manifest.json says which of its files are what.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string

	entries map[string]testenv.Entry
}

// archived is an image that comes as a file, after change has bent it. In names and links OUTSIDE is the absolute name
// of what an archive has no business with.
func archived(change func(h *house, s *saved)) func(h *house) []byte {
	return func(h *house) []byte {
		img := honest(h)
		config, err := json.Marshal(img.config)
		if err != nil {
			h.t.Fatal(err)
		}
		name := strings.TrimPrefix(digest(config), "sha256:") + ".json"
		s := &saved{Config: name, RepoTags: []string{"image:latest"}, Layers: []string{"0/layer.tar", "1/layer.tar"}, entries: map[string]testenv.Entry{
			name:          file(name, string(config)),
			"0/layer.tar": file("0/layer.tar", string(of(h.t, file("a", "1")).blob)),
			"1/layer.tar": file("1/layer.tar", string(of(h.t, file("b", "2")).blob)),
		}}
		if change != nil {
			change(h, s)
		}
		if _, own := s.entries["manifest.json"]; !own {
			manifest, err := json.Marshal([]*saved{s})
			if err != nil {
				h.t.Fatal(err)
			}
			s.put(file("manifest.json", string(manifest)))
		}
		var all list
		for _, name := range slices.Sorted(maps.Keys(s.entries)) {
			all = append(all, s.entries[name])
		}
		return testenv.Tar(h.t, all...)
	}
}

func (s *saved) put(e testenv.Entry) { s.entries[e.Name] = e }

// layout is an image as an OCI layout, after change has bent its files.
func layout(change func(h *house, i *image, files map[string]string)) func(h *house) []byte {
	return func(h *house) []byte {
		i := honest(h)
		manifest, err := json.Marshal(i.manifest)
		if err != nil {
			h.t.Fatal(err)
		}
		i.send(manifest)
		files := map[string]string{"oci-layout": `{"imageLayoutVersion": "1.0.0"}`, "index.json": fmt.Sprintf(
			`{"schemaVersion": 2, "manifests": [{"mediaType": "%s", "digest": "%s", "size": %d, "annotations": {"org.opencontainers.image.ref.name": "image:latest"}}]}`,
			i.manifest.MediaType, digest(manifest), len(manifest))}
		for name, blob := range i.blobs {
			content, err := io.ReadAll(blob.body())
			if err != nil {
				h.t.Fatal(err)
			}
			files[blobName(name)] = string(content)
		}
		if change != nil {
			change(h, i, files)
		}
		var all list
		for _, name := range slices.Sorted(maps.Keys(files)) {
			all = append(all, file(name, files[name]))
		}
		return testenv.Tar(h.t, all...)
	}
}

func blobName(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func loads() []attack {
	return []attack{
		{name: "archive without any attack", load: archived(nil), layers: "a=1 b=2"},
		{name: "layers whose names have nothing before the dot", load: archived(func(_ *house, s *saved) {
			for n, name := range []string{"layer.tar", ".tar"} {
				e := s.entries[s.Layers[n]]
				e.Name = name
				s.put(e)
				s.Layers[n] = name
			}
		}), layers: "a=1 b=2"},
		{name: "layout without any attack", load: layout(nil), layers: "a=1 b=2"},
		{name: "layer path of dotdots", load: archived(func(_ *house, s *saved) { s.Layers[1] = "../../../../outside/secret" }), refused: "path escapes"},
		{name: "layer path that is absolute", load: archived(func(h *house, s *saved) { s.Layers[1] = h.outside + "/secret" }), refused: "path escapes"},
		{name: "layer path of dotdots, and an entry of that name", load: archived(func(_ *house, s *saved) {
			s.Layers[1] = "../../../x/layer.tar"
			s.put(file(s.Layers[1], "led out\n"))
		}), refused: "leads out of the folder"},
		{name: "layer that is a symlink", load: archived(func(h *house, s *saved) { s.put(symlink("1/layer.tar", h.outside+"/secret")) }), refused: "leads out of the folder"},
		{name: "layer that is a fifo", load: archived(func(_ *house, s *saved) {
			s.put(testenv.Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "1/layer.tar", Mode: 0o644}})
		}), refused: "no regular file"},
		{name: "layer that is a folder", load: archived(func(_ *house, s *saved) {
			delete(s.entries, "1/layer.tar")
			s.put(dir("1/layer.tar"))
		}), refused: "no regular file"},
		{name: "config path of dotdots", load: archived(func(_ *house, s *saved) { s.Config = "../../../../outside/passwd" }), refused: "path escapes"},
		{name: "config that is a symlink", load: archived(func(h *house, s *saved) { s.put(symlink(s.Config, "../../../../../../../../etc/passwd")) }), refused: "leads out of the folder"},
		{name: "config under another's id", load: archived(func(_ *house, s *saved) {
			forged := s.entries[s.Config]
			s.Config = strings.Repeat("a", 64) + ".json"
			forged.Name = s.Config
			s.put(forged)
		}), refused: "has the digest"},
		{name: "manifest.json of 1 GB", load: func(h *house) []byte {
			return archive(h.t, func(w io.Writer) error {
				_, err := w.Write(raw('0', "manifest.json", octal(1<<30-1024)))
				if err == nil {
					_, err = io.Copy(w, io.LimitReader(spaces{}, 1<<30-1024))
				}
				if err == nil {
					_, err = w.Write(make([]byte, 1024))
				}
				return err
			}).blob
		}, refused: "larger than"},
		{name: "10 GB in 10 MB, in an archive", load: archived(func(h *house, s *saved) {
			s.put(file("1/layer.tar", string(bomb(h.t, raw('0', "a", octal(8<<30-1)), 10).blob)))
		}), refused: "--max-size"},
		{name: "10 GB in 10 MB, as an archive", load: func(h *house) []byte { return bomb(h.t, raw('0', "manifest.json", octal(8<<30-1)), 10).blob }, refused: "--max-size"},
		{name: "20,000 tags", load: archived(func(_ *house, s *saved) {
			for n := range 20_000 {
				s.RepoTags = append(s.RepoTags, fmt.Sprint("image:", n))
			}
		}), refused: "20001 names"},
		{name: "20,000 images", load: archived(func(h *house, s *saved) {
			manifest, err := json.Marshal(slices.Repeat([]*saved{s}, 20_000))
			if err != nil {
				h.t.Fatal(err)
			}
			s.put(file("manifest.json", string(manifest)))
		}), refused: "20000 images"},
		{name: "tag that leads out", load: archived(func(_ *house, s *saved) { s.RepoTags = []string{"../../../../outside:latest"} }), refused: "not an image reference"},
		{name: "tag of escape sequences", load: archived(func(_ *house, s *saved) { s.RepoTags = []string{"image:\x1b[2J"} }), refused: `\x1b[2J`},
		{name: "digest that leads out, in a layout", load: layout(func(_ *house, i *image, files map[string]string) {
			files["index.json"] = strings.Replace(files["index.json"], `"digest": "sha256:`, `"digest": "sha256:../../../../outside/secret`, 1)
		}), refused: "non-hex"},
		{name: "another blob under the layer's digest, in a layout", load: layout(func(h *house, i *image, files map[string]string) {
			files[blobName(i.manifest.Layers[1].Digest.String())] = string(of(h.t, file("b", "forged")).blob)
		}), refused: "does not match its digest"},
		{name: "another config under the config's digest, in a layout", load: layout(func(_ *house, i *image, files map[string]string) {
			files[blobName(i.manifest.Config.Digest.String())] += " "
		}), refused: "does not match its digest"},
		{name: "20,000 images, in a layout", load: layout(func(_ *house, _ *image, files map[string]string) {
			before, entry, _ := strings.Cut(files["index.json"], "[")
			entry = strings.TrimSuffix(entry, "]}")
			files["index.json"] = before + "[" + strings.Repeat(entry+",", 19_999) + entry + "]}"
		}), refused: "20000 images"},
	}
}
