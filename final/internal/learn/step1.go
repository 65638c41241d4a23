//go:build linux

package learn

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"gocker/final/internal/learn/cage"
	"gocker/step01-pull/shared/archive"
	"gocker/step02-untar/decompress"
)

// saved is FILE, in Dir.
const saved = "out/image.tar"

// pullCases are about "P pull REFERENCE FILE". A registry in the cage serves images of these layers.
func pullCases() ([]kase, error) {
	one, two := images()
	return []kase{
		pulls("file", one, func(p pulled) error { return nil }),
		pulls("manifest", two, pulled.namesItsFiles),
		pulls("config", two, pulled.hasConfig),
		pulls("id", two, pulled.namesConfig),
		pulls("layers", two, pulled.hasLayers),
		pulls("order", two, pulled.inOrder),
		pulls("twice", repeated(), pulled.inOrder),
		pulls("name", one, pulled.hasName),
		{"tag", func(t *trial) error {
			return t.pullsOf("v2", two, served{"app:v1": one, "app:v2": two, "app:latest": one})
		}},
		{"latest", func(t *trial) error { return t.pullsOf("", two, served{"app:v1": one, "app:latest": two}) }},
		{"digest", func(t *trial) error {
			digest, err := two.Digest()
			if err != nil {
				return err
			}
			return t.pullsOf("@"+digest.String(), two, served{"app:latest": one, "app:v2": two})
		}},
		{"platform", func(t *trial) error { return t.pullsOf("v1", two, served{"app:v1": forPlatforms(two)}) }},
		{"replace", func(t *trial) error {
			if err := t.write(saved, []byte("an older file\n")); err != nil {
				return err
			}
			return t.pullsOf("v1", two, served{"app:v1": two})
		}},
		{"rest", func(t *trial) error {
			if err := t.pullsOf("v1", two, served{"app:v1": two}); err != nil {
				return err
			}
			return t.onlyFile()
		}},
		refuses("not-found", "nothing:v1", nil, nil),
		refuses("reference", "App:v1", nil, nil),
		refuses("cut", "app:v1", cutShort, nil),
		refuses("wrong-byte", "app:v1", wrongByte, nil),
		refuses("old", "app:v1", cutShort, []byte("an older file\n")),
	}, nil
}

// images are one of a layer, and one of three.
func images() (one, two v1.Image) {
	layer := func(name, content string) []byte {
		b, err := archive.Tar(archive.File(name, content))
		if err != nil {
			panic(err) // the names above are good ones
		}
		return b
	}
	one, _ = archive.Image(layer("a", "1")) // what could fail, fails when the image is sent to the registry
	two, _ = archive.Image(layer("a", "1"), layer("b", strings.Repeat("2", 3000)), layer("c", "3"))
	return one, two
}

// repeated is an image that has one layer twice, as those have in which a file came, went, and came again.
func repeated() v1.Image {
	a, err := archive.Tar(archive.File("a", "1"))
	b, errB := archive.Tar(archive.File("b", "1"))
	if err != nil || errB != nil {
		panic(errors.Join(err, errB))
	}
	img, _ := archive.Image(a, b, a)
	return img
}

// pulls is a case in which an image is pulled, and is looked at.
func pulls(name string, img v1.Image, look func(pulled) error) kase {
	return kase{name, func(t *trial) error {
		p, err := t.pull("v1", img, served{"app:v1": img, "app:latest": img})
		if err != nil {
			return err
		}
		return look(p)
	}}
}

// pullsOf pulls an image by a tag or a digest, and looks whether it is the right one.
func (t *trial) pullsOf(tag string, want v1.Image, all served) error {
	p, err := t.pull(tag, want, all)
	if err != nil {
		return err
	}
	return p.hasConfig()
}

// A pulled image is what a program wrote.
type pulled struct {
	want     v1.Image
	name     string
	files    map[string][]byte
	manifest tarball.Descriptor
}

func (t *trial) pull(tag string, want v1.Image, all served) (p pulled, err error) {
	stop, err := t.serve(all, nil)
	if err != nil {
		return p, err
	}
	defer stop()
	p = pulled{want: want, name: registryAddress + "/app"}
	if p.name += ":" + tag; tag == "" || tag[0] == '@' {
		p.name = registryAddress + "/app" + tag
	}
	if err := os.MkdirAll(t.at("out"), 0o755); err != nil {
		return p, err
	}
	if _, err := t.succeed("pull", p.name, cage.Dir+"/"+saved); err != nil {
		return p, err
	}
	raw, err := os.ReadFile(t.at(saved))
	if err != nil {
		return p, failed("", say("the file FILE"), say("there is none"))
	}
	return p, p.read(raw)
}

func (p *pulled) read(raw []byte) error {
	p.files = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		content, readErr := []byte(nil), err
		if err == nil {
			content, readErr = io.ReadAll(r)
		}
		if readErr != nil {
			return failed("", say("FILE is a tar archive"), say("%d bytes, and: %v", len(raw), readErr))
		}
		p.files[path.Clean(h.Name)] = content
	}
	var all []tarball.Descriptor
	if err := json.Unmarshal(p.files["manifest.json"], &all); err != nil || len(all) != 1 {
		return failed("manifest", say("a file manifest.json: %s", `[{"Config": "…", "RepoTags": ["…"], "Layers": ["…", …]}]`), say("%q, in an archive of %s", p.files["manifest.json"], p.list()))
	}
	p.manifest = all[0]
	return nil
}

// list are the names in the archive.
func (p pulled) list() string {
	var names []string
	for name := range p.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (p pulled) namesItsFiles() error {
	for _, name := range append([]string{p.manifest.Config}, p.manifest.Layers...) {
		if _, ok := p.files[path.Clean(name)]; !ok {
			return failed("", say("a file %s, which manifest.json names", name), say("the archive has %s", p.list()))
		}
	}
	return nil
}

func (p pulled) hasConfig() error {
	if err := p.namesItsFiles(); err != nil {
		return err
	}
	want, err := p.want.RawConfigFile()
	if err != nil {
		return err
	}
	if got := p.files[path.Clean(p.manifest.Config)]; !bytes.Equal(got, want) {
		return failed("", string(want), string(got))
	}
	return nil
}

func (p pulled) namesConfig() error {
	name, err := p.want.ConfigName()
	if err == nil && !strings.Contains(p.manifest.Config, name.Hex) {
		err = failed("", say("a name with %s", name.Hex), p.manifest.Config)
	}
	return err
}

// layers are the diffIDs of what manifest.json names, and of what it should name.
func (p pulled) layers() (got, want []string, err error) {
	if err := p.namesItsFiles(); err != nil {
		return nil, nil, err
	}
	config, err := p.want.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	for _, diffID := range config.RootFS.DiffIDs {
		want = append(want, diffID.String())
	}
	for _, name := range p.manifest.Layers {
		plain := decompress.Reader(bytes.NewReader(p.files[path.Clean(name)]))
		defer plain.Close()
		content, err := io.ReadAll(plain)
		if err != nil {
			return nil, nil, failed("layers", say("a tar archive, plain or compressed"), fmt.Sprintf("%s: %v", name, err))
		}
		got = append(got, fmt.Sprintf("sha256:%x", sha256.Sum256(content)))
	}
	return got, want, nil
}

func (p pulled) hasLayers() error {
	got, want, err := p.layers()
	if err != nil {
		return err
	}
	return compareLayers(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)))
}

func (p pulled) inOrder() error {
	got, want, err := p.layers()
	if err != nil {
		return err
	}
	return compareLayers(got, want)
}

func compareLayers(got, want []string) error {
	if slices.Equal(got, want) {
		return nil
	}
	return failed("", say("these layers, by their diffIDs:")+"\n"+strings.Join(want, "\n"), strings.Join(got, "\n"))
}

func (p pulled) hasName() error {
	if slices.Contains(p.manifest.RepoTags, p.name) {
		return nil
	}
	return failed("", say("RepoTags has %q", p.name), say("RepoTags is %q", p.manifest.RepoTags))
}

// onlyFile looks for files beside FILE.
func (t *trial) onlyFile() error {
	entries, err := os.ReadDir(t.at("out"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != path.Base(saved) {
			return failed("rest", say("nothing beside FILE"), cage.Dir+"/out/"+e.Name())
		}
	}
	return nil
}

// refuses is a case in which there is nothing to be pulled, or something wrong. old is what FILE has before, and after.
func refuses(name, reference string, spoil spoiler, old []byte) kase {
	return kase{name, func(t *trial) error {
		_, two := images()
		stop, err := t.serve(served{"app:v1": two}, spoil)
		if err != nil {
			return err
		}
		defer stop()
		if err := t.write(saved, old); err != nil {
			return err
		}
		if old == nil {
			if err := os.Remove(t.at(saved)); err != nil {
				return err
			}
		}
		o, err := t.run("pull", registryAddress+"/"+reference, cage.Dir+"/"+saved)
		if err != nil {
			return err
		}
		refused := say("an error, a status that is not 0, and no change of FILE")
		got, err := os.ReadFile(t.at(saved))
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case !bytes.Equal(got, old) || (err == nil) != (old != nil):
			return failed("", refused, say("status %d, and %s", o.Status, fileIs(got, err)))
		case o.Status == 0:
			return failed("status-0", refused, say("status %d", 0))
		case strings.TrimSpace(o.Stderr) == "":
			return failed("silent", say("a message on standard error"), say("status %d, and no word", o.Status))
		}
		return t.onlyFile()
	}}
}

func fileIs(content []byte, err error) string {
	if err != nil {
		return say("FILE is gone")
	}
	return say("FILE has %d bytes", len(content))
}
