//go:build linux

package images

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/testenv"
)

// files are those of a folder, or of an archive.
type files map[string]string

func digestOf(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

// blob adds a blob of an OCI layout, and returns its descriptor.
func (f files) blob(mediaType types.MediaType, content string) v1.Descriptor {
	hash := v1.Hash{Algorithm: "sha256", Hex: digestOf(content)}
	f[blobName(hash)] = content
	return v1.Descriptor{MediaType: mediaType, Digest: hash, Size: int64(len(content))}
}

func (f files) json(t testing.TB, mediaType types.MediaType, value any) v1.Descriptor {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return f.blob(mediaType, string(raw))
}

// image adds one of plain layers to an OCI layout. label makes it another one.
func (f files) image(t testing.TB, label, architecture string, layers ...string) v1.Descriptor {
	t.Helper()
	config := v1.ConfigFile{OS: "linux", Architecture: architecture, RootFS: v1.RootFS{Type: "layers"}, Config: v1.Config{Labels: map[string]string{"is": label}}}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for _, layer := range layers {
		desc := f.blob(types.OCIUncompressedLayer, layer)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, desc.Digest)
		manifest.Layers = append(manifest.Layers, desc)
	}
	manifest.Config = f.json(t, types.OCIConfigJSON, config)
	return f.json(t, types.OCIManifestSchema1, manifest)
}

// index adds index.json and oci-layout.
func (f files) index(t testing.TB, all ...v1.Descriptor) files {
	t.Helper()
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: all})
	if err != nil {
		t.Fatal(err)
	}
	f["index.json"], f["oci-layout"] = string(raw), `{"imageLayoutVersion":"1.0.0"}`
	return f
}

// named gives a descriptor a name.
func named(desc v1.Descriptor, annotation, name string) v1.Descriptor {
	desc.Annotations = map[string]string{annotation: name}
	return desc
}

func on(desc v1.Descriptor, architecture string) v1.Descriptor {
	desc.Platform = &v1.Platform{OS: "linux", Architecture: architecture}
	return desc
}

// write makes a folder of the files.
func (f files) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range f {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (f files) tar(t testing.TB) []byte {
	var entries []testenv.Entry
	for _, name := range slices.Sorted(maps.Keys(f)) {
		entries = append(entries, testenv.File(name, f[name]))
	}
	return testenv.Tar(t, entries...)
}

// load loads an archive into a store of its own.
func load(t testing.TB, f files) Store {
	t.Helper()
	s := Store{Dirs: testenv.Dirs(t)}
	if err := s.Load(t.Context(), bytes.NewReader(f.tar(t)), LoadOptions{Loaded: func(Loaded) {}}); err != nil {
		t.Fatalf("Load = %v", err)
	}
	return s
}

// read reads an archive, and tells a line of each image: its label, architecture and names.
func read(t testing.TB, f files, wanted *v1.Platform) (images, leftOut []string, err error) {
	t.Helper()
	packages, leftOut, err := readArchive(f.write(t), wanted)
	for _, p := range packages {
		var config v1.ConfigFile
		if err := json.Unmarshal(p.Config, &config); err != nil {
			t.Fatal(err)
		}
		images = append(images, fmt.Sprint(config.Config.Labels["is"], " ", config.Architecture, " ", p.names))
	}
	return images, leftOut, err
}

// foreign is an architecture that this machine does not run.
var foreign = map[string]string{"amd64": "arm64", "arm64": "s390x"}[runtime.GOARCH]

func TestOfSeveralPlatformsUnderOneNameThisMachinesIsLoaded(t *testing.T) {
	layer := testenv.Tar(t, testenv.File("a", "1"))
	const name = "registry.example/app:v1"
	f := files{}
	mine, other := f.image(t, "mine", runtime.GOARCH, string(layer)), f.image(t, "other", foreign, string(layer))
	nested := f.json(t, types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{other, mine}})
	dockers := func(all ...v1.Descriptor) files {
		var list []map[string]any
		for _, desc := range all {
			var m v1.Manifest
			if err := json.Unmarshal([]byte(f[blobName(desc.Digest)]), &m); err != nil {
				t.Fatal(err)
			}
			list = append(list, map[string]any{"Config": blobName(m.Config.Digest), "RepoTags": []string{name}, "Layers": []string{blobName(m.Layers[0].Digest)}})
		}
		raw, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		g := maps.Clone(f)
		g["manifest.json"] = string(raw)
		return g
	}
	layout := func(all ...v1.Descriptor) files { return maps.Clone(f).index(t, all...) }
	n := func(desc v1.Descriptor) v1.Descriptor { return named(desc, imageName, name) }
	want, wantOther := "mine "+runtime.GOARCH+" ["+name+"]", "other "+foreign+" ["+name+"]"
	for what, tt := range map[string]struct {
		files files
		want  string
	}{
		"ours first":                 {layout(n(on(mine, runtime.GOARCH)), n(on(other, foreign))), want},
		"ours last":                  {layout(n(on(other, foreign)), n(on(mine, runtime.GOARCH))), want},
		"without platforms":          {layout(n(mine), n(other)), want},
		"an index":                   {layout(n(nested)), want},
		"an index in an index":       {layout(n(f.json(t, types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{nested}}))), want},
		"an index, and only ours":    {func() files { g := layout(n(nested)); delete(g, blobName(other.Digest)); return g }(), want},
		"docker's, ours first":       {dockers(mine, other), want},
		"docker's, ours last":        {dockers(other, mine), want},
		"an index, only another's":   {func() files { g := layout(n(nested)); delete(g, blobName(mine.Digest)); return g }(), wantOther},
		"only another's":             {layout(n(other)), wantOther},
		"only another's in docker's": {dockers(other), wantOther},
	} {
		if loaded, _, err := read(t, tt.files, nil); err != nil || !slices.Equal(loaded, []string{tt.want}) {
			t.Errorf("%s: %q, %v; want %q", what, loaded, err, tt.want)
		}
		wanted := &v1.Platform{OS: "linux", Architecture: foreign}
		if what == "an index, and only ours" {
			continue
		}
		if loaded, _, err := read(t, tt.files, wanted); err != nil || !slices.Equal(loaded, []string{wantOther}) {
			t.Errorf("%s, for %s: %q, %v; want %q", what, wanted, loaded, err, wantOther)
		}
	}
	vax := &v1.Platform{OS: "linux", Architecture: "vax"}
	for what, f := range map[string]files{"layout": layout(n(mine), n(other)), "index": layout(n(nested)), "docker's": dockers(mine, other)} {
		loaded, _, err := read(t, f, vax)
		if says := advice.Of(err); err == nil || loaded != nil || !strings.Contains(says, "linux/"+runtime.GOARCH) || !strings.Contains(says, "linux/"+foreign) {
			t.Errorf("%s, for vax: %q, %v, advice %q; want none, and what there is", what, loaded, err, says)
		}
	}
}

func TestWhatIsInAnArchiveIsNamed(t *testing.T) {
	layer := string(testenv.Tar(t, testenv.File("a", "1")))
	f := files{}
	img := f.image(t, "app", runtime.GOARCH, layer)
	sbom := f.json(t, types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: f.blob("application/vnd.oci.empty.v1+json", "{}"), Layers: []v1.Descriptor{f.blob("application/spdx+json", "{ }")}})
	signature := f.json(t, types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: f.blob(types.OCIConfigJSON, "{}"), Layers: []v1.Descriptor{f.blob("application/vnd.dev.cosign.simplesigning.v1+json", "{  }")}})
	sbom.ArtifactType = "application/spdx+json"
	var m v1.Manifest
	if err := json.Unmarshal([]byte(f[blobName(img.Digest)]), &m); err != nil {
		t.Fatal(err)
	}
	layout := func(all ...v1.Descriptor) files { return maps.Clone(f).index(t, all...) }
	mixed := layout(img)
	mixed["manifest.json"] = fmt.Sprintf(`[{"Config":%q,"RepoTags":["app:v1","app:v2"],"Layers":[%q]}]`, blobName(m.Config.Digest), blobName(m.Layers[0].Digest))
	both := maps.Clone(mixed).index(t, named(img, refName, "docker.io/library/app:v1"))
	for what, tt := range map[string]struct {
		files         files
		want, leftOut string
	}{
		"a whole name":              {layout(named(img, refName, "registry.example/app:v1")), "[registry.example/app:v1]", ""},
		"a name without a registry": {layout(named(img, refName, "app:v1")), "[app:v1]", ""},
		"only a tag":                {layout(named(img, refName, "v1")), "[]", ""},
		"only latest":               {layout(named(img, refName, "latest")), "[]", ""},
		"containerd's, and only a tag": {layout(func() v1.Descriptor {
			d := named(img, imageName, "docker.io/library/app:v1")
			d.Annotations[refName] = "v1"
			return d
		}()), "[app:v1]", ""},
		"only docker's manifest has them": {mixed, "[app:v1 app:v2]", ""},
		"docker's manifest has one more":  {both, "[app:v1 app:v2]", ""},
		"a bill of materials":             {layout(named(img, refName, "app:v1"), sbom), "[app:v1]", sbom.Digest.String() + ", application/spdx+json"},
		"a signature first":               {layout(signature, named(img, refName, "app:v1")), "[app:v1]", signature.Digest.String() + ", something else than an image"},
	} {
		loaded, leftOut, err := read(t, tt.files, nil)
		if want := "app " + runtime.GOARCH + " " + tt.want; err != nil || !slices.Equal(loaded, []string{want}) || strings.Join(leftOut, "") != tt.leftOut {
			t.Errorf("%s: %q, left out %q, %v; want %q, %q", what, loaded, leftOut, err, want, tt.leftOut)
		}
	}
	old := layout(img)
	old["oci-layout"] = `{"imageLayoutVersion":"2.0.0"}`
	for says, f := range map[string]files{
		"manifest.json has 0 images":     {"manifest.json": "[]"},
		"manifest.json has 0 images;":    {"manifest.json": "null"},
		"JSON of another kind":           {"manifest.json": `"x"`},
		"manifest.json: not the":         {"manifest.json": `{}`},
		"index.json names no image":      layout(),
		"it is something else than":      layout(sbom),
		`oci-layout: it has the version`: old,
	} {
		if loaded, _, err := read(t, f, nil); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "tarball.") {
			t.Errorf("it has %q, %v; want an error that says %q", loaded, err, says)
		}
	}
}

func TestAFolderIsLookedAtBeforeItIsCopied(t *testing.T) {
	testenv.NeedRoot(t)
	f := files{}
	img := f.image(t, "app", runtime.GOARCH, string(testenv.Tar(t, testenv.File("a", "1"))))
	var m v1.Manifest
	if err := json.Unmarshal([]byte(f[blobName(img.Digest)]), &m); err != nil {
		t.Fatal(err)
	}
	skopeo := files{"version": "Directory Transport Version: 1.1\n", "manifest.json": f[blobName(img.Digest)]}
	for name, content := range f {
		skopeo[filepath.Base(name)] = content
	}
	for what, dir := range map[string]string{"OCI's": maps.Clone(f).index(t, img).write(t), "skopeo's": skopeo.write(t)} {
		s := Store{Dirs: testenv.Dirs(t)}
		s.Dirs.Root = filepath.Join(dir, "store") // it lies in what it copies
		var loaded []string
		err := s.LoadFolder(t.Context(), dir, LoadOptions{Loaded: func(l Loaded) { loaded = append(loaded, l.Digest) }})
		if err != nil || !slices.Equal(loaded, []string{m.Config.Digest.Hex}) {
			t.Errorf("%s: loaded %q, %v; want %s", what, loaded, err, m.Config.Digest)
		}
		if _, err := s.Check(func(f Finding) { t.Errorf("%s: %+v", what, f) }); err != nil {
			t.Error(err)
		}
	}
	none := files{"a": "1"}.write(t)
	s := Store{Dirs: testenv.Dirs(t)}
	s.Dirs.Root = filepath.Join(none, "store")
	if err := s.LoadFolder(t.Context(), none, LoadOptions{}); err == nil || len(testenv.Ls(t, s.Dirs.Root)) > 0 {
		t.Errorf("LoadFolder of a folder without images: %v, and the store has %q; want nothing made", err, testenv.Ls(t, s.Dirs.Root))
	}
}

func TestAnImageMayHaveNoLayers(t *testing.T) {
	testenv.NeedRoot(t)
	f := files{}
	img := f.image(t, "label only", runtime.GOARCH)
	s := load(t, maps.Clone(f).index(t, named(img, refName, "empty:v1")))
	ref, err := pull.ParseReference("empty:v1")
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Inspect(ref)
	if err != nil || i.Config.Labels["is"] != "label only" || i.RootFS.Layers == nil || len(i.RootFS.Layers) != 0 {
		t.Errorf("Inspect = %+v, %v; want the label, and no layers", i, err)
	}
	if steps, err := s.History(ref); err != nil || len(steps) > 0 {
		t.Errorf("History = %v, %v; want none", steps, err)
	}
	if _, err := s.Contents(ref); err != nil {
		t.Errorf("Contents = %v", err)
	}
	for _, forDocker := range []bool{true, false} {
		var saved bytes.Buffer
		if err := s.Save(&saved, []pull.Reference{ref}, forDocker); err != nil {
			t.Fatalf("Save = %v", err)
		}
		again := Store{Dirs: testenv.Dirs(t)}
		n := 0
		if err := again.Load(t.Context(), &saved, LoadOptions{Loaded: func(Loaded) { n++ }}); err != nil || n != 1 {
			t.Errorf("what was saved, for docker %v, loads as %d images, %v", forDocker, n, err)
		}
	}
	address := testenv.Registry(t, nil)
	if ref, err = pull.ParseReference(address + "/empty:v1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(i.ref(t), ref); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Push(t.Context(), ref, PushOptions{}); err != nil {
		t.Fatalf("Push = %v", err)
	}
	there := Store{Dirs: testenv.Dirs(t)}
	if pulled, err := there.Pull(t.Context(), ref, PullOptions{}); err != nil || "sha256:"+pulled.Image.Digest != i.ID {
		t.Errorf("Pull = %s, %v; want %s", pulled.Image.Digest, err, i.ID)
	}
	for _, s := range []Store{s, there} {
		if _, err := s.Check(func(f Finding) { t.Errorf("Check: %+v", f) }); err != nil {
			t.Error(err)
		}
	}
}

// ref names an image by its id.
func (i Inspection) ref(t testing.TB) pull.Reference {
	t.Helper()
	ref, err := pull.ParseReference(strings.TrimPrefix(i.ID, "sha256:")[:12])
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestXattrsWithoutAPlaceAreToldAndNoFault(t *testing.T) {
	testenv.NeedRoot(t)
	a := testenv.File("a", "1")
	a.PAXRecords = map[string]string{"SCHILY.xattr.com.apple.provenance": "1"}
	f := files{}
	img := f.image(t, "app", runtime.GOARCH, string(testenv.Tar(t, a)), string(testenv.Tar(t, testenv.File("b", "2"))))
	s := Store{Dirs: testenv.Dirs(t)}
	for _, want := range []string{`left out xattr com.apple.provenance of "a": `, ""} { // a layer that is here is not unpacked
		err := s.Load(t.Context(), bytes.NewReader(f.index(t, img).tar(t)), LoadOptions{Loaded: func(l Loaded) {
			lines := LeftOut(l.Image)
			if len(lines) > 1 || !strings.Contains(strings.Join(lines, ""), want) || (len(lines) == 0) != (want == "") {
				t.Errorf("LeftOut = %q, want %q", lines, want)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Check(func(f Finding) { t.Errorf("Check: %+v", f) }); err != nil {
		t.Error(err)
	}
}
