//go:build linux

package road

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
)

var file = testenv.File

// sum is the SHA-256 of data, as hex digits.
func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func parse(t testing.TB, s string) pull.Reference {
	t.Helper()
	ref, err := pull.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// stage makes tmp/{image} as step 2 leaves it, and returns the {image}. Its lock is held until the test ends.
func stage(t testing.TB, d dirs.Dirs, name string, img v1.Image) string {
	t.Helper()
	image, lock, err := pull.Save(d, parse(t, name), img, pull.Newer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if err := untar.Package(d, image); err != nil {
		t.Fatal(err)
	}
	return image
}

func add(t testing.TB, d dirs.Dirs, name string, img v1.Image) layers.Image {
	t.Helper()
	added, err := Add(t.Context(), d, parse(t, name), stage(t, d, name, img))
	if err != nil {
		t.Fatalf("Add %s = %v", name, err)
	}
	return added
}

// small is an image with n layers, each a file whose content begins with seed.
func small(t testing.TB, seed string, n int) v1.Image {
	t.Helper()
	var tars [][]byte
	for i := range n {
		tars = append(tars, testenv.Tar(t, file(fmt.Sprintf("%s-%d", seed, i), seed)))
	}
	return testenv.Image(t, tars...)
}

func TestAddLeavesWhatTheDocsSay(t *testing.T) {
	d := testenv.Dirs(t)
	img := small(t, "a", 2)
	added := add(t, d, "app:v1", img)
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{manifest.Config.Digest.Hex + ".json", "manifest.json"}
	for _, layer := range manifest.Layers {
		want = append(want, layer.Digest.Hex[:12])
	}
	slices.Sort(want)
	if got := testenv.Ls(t, d.Image(added.ID)); !slices.Equal(got, want) {
		t.Errorf("images/%s has %q, want %q", added.ID, got, want)
	}
	for i, layer := range added.Layers {
		if sent := manifest.Layers[i]; layer.Digest != sent.Digest.String() || layer.Size != sent.Size || layer.Added != 1 || layer.Updated+layer.Deleted != 0 {
			t.Errorf("layer %d is %+v, want digest %s, size %d, 1 added", i+1, layer, sent.Digest, sent.Size)
		}
		link := filepath.Join(d.Image(added.ID), manifest.Layers[i].Digest.Hex[:12], "fs")
		if got, want := testenv.Tree(t, link+"/."), fmt.Sprintf("a-%d -rw-r--r-- \"a\"\n", i); !strings.HasSuffix(got, want) {
			t.Errorf("%s has %q, want %q", link, got, want)
		}
	}
	if raw, err := os.ReadFile(d.ImagesJSON()); err != nil || string(raw) != "{\n\t\"app\": {\n\t\t\"v1\": \""+added.ID+"\"\n\t}\n}\n" {
		t.Errorf("images.json is %q, %v", raw, err)
	}
	if left := testenv.Ls(t, d.AllTmp()); len(left) > 0 {
		t.Errorf("tmp has %q, want nothing", left)
	}
	opened, err := layers.Open(d, added.ID)
	if err != nil || opened.Digest != manifest.Config.Digest.Hex || !slices.Equal(opened.Layers, added.Layers) {
		t.Errorf("Open = %+v, %v; want what Add returned, %+v", opened, err, added)
	}
}

func TestAddTwiceIsAddOnce(t *testing.T) {
	d := testenv.Dirs(t)
	img := small(t, "a", 3)
	first := add(t, d, "app:v1", img)
	before := testenv.Tree(t, d.Root)
	second := add(t, d, "app:v1", img)
	if after := testenv.Tree(t, d.Root); after != before || !slices.Equal(first.Layers, second.Layers) {
		t.Errorf("a second Add left\n%swant\n%s", after, before)
	}
}

func TestSharedLayersAreKeptOnce(t *testing.T) {
	d := testenv.Dirs(t)
	one, two, three := testenv.Tar(t, file("a", "1")), testenv.Tar(t, file("b", "2")), testenv.Tar(t, file("c", "3"))
	add(t, d, "first", testenv.Image(t, one, two))
	add(t, d, "second", testenv.Image(t, one, three))
	if got := testenv.Ls(t, d.Layers()); len(got) != 3 {
		t.Errorf("layers has %q, want 3 for two images with two each and one in common", got)
	}
	// The same layer on another one is not the same: what it hides and how its folders look depends on what is below.
	add(t, d, "third", testenv.Image(t, two))
	if got := testenv.Ls(t, d.Layers()); len(got) != 4 {
		t.Errorf("layers has %q, want 4", got)
	}
}

func TestTheSameLayerTwiceHasTwoNames(t *testing.T) {
	d := testenv.Dirs(t)
	same := testenv.Tar(t, file("a", "1"))
	img := testenv.Image(t, same, same, same)
	added := add(t, d, "app", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "-2", "-3"} {
		if _, err := os.Stat(filepath.Join(d.Image(added.ID), hash.Hex[:12]+name, "fs")); err != nil {
			t.Error(err)
		}
	}
	if len(added.Layers) != 3 || added.Layers[2].Updated != 1 {
		t.Errorf("layers are %+v, want 3, the last with 1 updated", added.Layers)
	}
}

// crane.MultiSaveLegacy still writes the kind that the notes' author looked at: a folder for every layer, named by its
// v1 ID.
func TestArchivesOfTheOlderKindAreRead(t *testing.T) {
	d := testenv.Dirs(t)
	img := small(t, "a", 2)
	image := stage(t, d, "app", img)
	for _, name := range testenv.Ls(t, d.Tmp(image)) {
		if name != "reference" {
			os.Remove(filepath.Join(d.Tmp(image), name))
		}
	}
	if err := crane.MultiSaveLegacy(map[string]v1.Image{"app": img}, d.PackageTar(image)); err != nil {
		t.Fatal(err)
	}
	if err := untar.Package(d, image); err != nil {
		t.Fatal(err)
	}
	added, err := Add(t.Context(), d, parse(t, "app"), image)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	lower := sum([]byte(manifest.Layers[0].Digest.Hex + " "))
	upper := sum([]byte(manifest.Layers[1].Digest.Hex + " " + lower + " " + string(raw)))
	for i, id := range []string{lower, upper} {
		got, err := os.Readlink(filepath.Join(d.Image(image), id[:12]))
		if want := "../../layers/" + strings.TrimPrefix(added.Layers[i].ChainID, "sha256:"); err != nil || got != want {
			t.Errorf("layer %s is a link to %q, %v; want %q", id[:12], got, err, want)
		}
	}
	if _, err := layers.Open(d, image); err != nil {
		t.Errorf("Open = %v", err)
	}
}

func TestBrokenPackagesAreRefused(t *testing.T) {
	testenv.NeedRoot(t)
	good := small(t, "a", 2)
	manifest, err := good.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, lower, upper := manifest.Config.Digest.String(), manifest.Layers[0].Digest.Hex+".tar.gz", manifest.Layers[1].Digest.Hex+".tar.gz"
	list := func(config string, layers ...string) string {
		raw, err := json.Marshal([]any{map[string]any{"Config": config, "Layers": layers}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	put := func(name, content string) func(tmp string) error {
		return func(tmp string) error { return os.WriteFile(filepath.Join(tmp, name), []byte(content), 0o644) }
	}
	instead := func(name string, make func(path string) error) func(tmp string) error {
		return func(tmp string) error {
			if err := os.Remove(filepath.Join(tmp, name)); err != nil || make == nil {
				return err
			}
			return make(filepath.Join(tmp, name))
		}
	}
	for _, tt := range []struct {
		what  string
		spoil func(tmp string) error
		want  error // nil: only that there is one
		says  string
	}{
		{"no manifest", instead("manifest.json", nil), layers.ErrManifest, "manifest.json"},
		{"empty manifest", put("manifest.json", ""), layers.ErrManifest, "manifest.json"},
		{"manifest that is no JSON", put("manifest.json", "# layers"), layers.ErrManifest, "manifest.json"},
		{"manifest of another shape", put("manifest.json", `{"Config":"x"}`), layers.ErrManifest, "manifest.json"},
		{"manifest null", put("manifest.json", "null"), layers.ErrManifest, "0 images"},
		{"manifest of no image", put("manifest.json", "[]"), layers.ErrManifest, "0 images"},
		{"manifest of two images", put("manifest.json", "[{},{}]"), layers.ErrManifest, "2 images"},
		{"manifest of an image that is null", put("manifest.json", "[null]"), layers.ErrManifest, "config"},
		{"manifest larger than any", put("manifest.json", strings.Repeat(" ", 8<<20+1)), layers.ErrManifest, "larger"},
		{"manifest is a fifo", instead("manifest.json", func(p string) error { return unix.Mkfifo(p, 0o644) }), layers.ErrManifest, "no regular file"},
		{"a layer too few", put("manifest.json", list(config, lower)), layers.ErrManifest, "1 layers, the config 2"},
		{"a layer too many", put("manifest.json", list(config, lower, upper, upper)), layers.ErrManifest, "3 layers, the config 2"},
		{"no layers", put("manifest.json", list(config)), layers.ErrManifest, "0 layers"},
		{"a layer that is not there", put("manifest.json", list(config, lower, "gone.tar.gz")), os.ErrNotExist, "gone.tar.gz"},
		{"a layer without a name", put("manifest.json", list(config, lower, "")), layers.ErrManifest, "no name"},
		{"a layer outside", put("manifest.json", list(config, lower, "../../x")), nil, "escapes"},
		{"a layer with an absolute name", put("manifest.json", list(config, lower, "/etc/passwd")), nil, "escapes"},
		{"a layer that links to outside", instead(upper, func(p string) error { return os.Symlink("/etc/passwd", p) }), nil, "escapes"},
		{"a layer that is a fifo", instead(upper, func(p string) error { return unix.Mkfifo(p, 0o644) }), nil, "no regular file"},
		{"a layer that is a folder", instead(upper, func(p string) error { return os.Mkdir(p, 0o755) }), nil, "no regular file"},
		{"a layer that is no archive", put(upper, "no archive"), layers.ErrDigest, "layer " + upper},
		{"another layer's content", put(upper, string(testenv.Tar(t, file("a", "forged")))), layers.ErrDigest, "the manifest says"},
		{"the layers swapped", put("manifest.json", list(config, upper, lower)), layers.ErrDigest, "diffID"},
		{"a layer with something after its end", func(tmp string) error {
			f, err := os.OpenFile(filepath.Join(tmp, upper), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("more")
				err = errors.Join(err, f.Close())
			}
			return err
		}, layers.ErrDigest, "layer " + upper},
		{"no config", instead(config, nil), layers.ErrManifest, "config"},
		{"config outside", put("manifest.json", list("../../x", lower, upper)), layers.ErrManifest, "config"},
		{"a changed config", put(config, "{}"), layers.ErrDigest, "config"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			d := testenv.Dirs(t)
			image := stage(t, d, "app", good)
			if err := tt.spoil(d.Tmp(image)); err != nil {
				t.Fatal(err)
			}
			img, err := Add(t.Context(), d, parse(t, "app"), image)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Add = %v, %v; want %v with %q", img, err, tt.want, tt.says)
			}
			if _, err := local.Lookup(d, parse(t, "app")); !errors.Is(err, local.ErrNoImage) {
				t.Errorf("Lookup after a failed Add = %v, want local.ErrNoImage", err)
			}
		})
	}
}

func TestAnImageWithTheSameTwelveDigitsIsAnother(t *testing.T) {
	d := testenv.Dirs(t)
	image := stage(t, d, "app", small(t, "a", 1))
	if err := os.MkdirAll(d.Image(image), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Image(image), image+strings.Repeat("0", 52)+".json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(t.Context(), d, parse(t, "app"), image); !errors.Is(err, layers.ErrDigest) || advice.Of(err) == "" {
		t.Errorf("Add = %v, want ErrDigest and advice", err)
	}
}

func TestPullingAgainMendsADamagedLayer(t *testing.T) {
	for what, damage := range map[string]func(layer string) error{
		"no files":              func(layer string) error { return os.RemoveAll(filepath.Join(layer, "fs")) },
		"no folder":             os.RemoveAll,
		"layer.json is no JSON": func(layer string) error { return os.WriteFile(filepath.Join(layer, "layer.json"), []byte("{"), 0o644) },
	} {
		d := testenv.Dirs(t)
		img := small(t, "a", 2)
		added := add(t, d, "app", img)
		if err := damage(filepath.Dir(added.Stack(d)[0])); err != nil {
			t.Fatal(err)
		}
		if _, err := layers.Open(d, added.ID); !errors.Is(err, layers.ErrDamaged) || !strings.Contains(advice.Of(err), "pull it again") {
			t.Errorf("layers.Open, %s = %v, want ErrDamaged and the advice to pull again", what, err)
		}
		add(t, d, "app", img)
		if opened, err := layers.Open(d, added.ID); err != nil || !slices.Equal(opened.Layers, added.Layers) {
			t.Errorf("Open after Add, %s = %+v, %v; want %+v", what, opened, err, added)
		}
	}
}

func TestAFullDiskLeavesNoLayer(t *testing.T) {
	d := testenv.SmallDisk(t, 1<<20)
	image := stage(t, d, "app", testenv.Image(t, testenv.Tar(t, file("big", strings.Repeat("\x00", 3<<20)))))
	if _, err := Add(t.Context(), d, parse(t, "app"), image); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("Add = %v, want no space left on device", err)
	}
	for _, dir := range []string{d.Layers(), d.Images()} {
		if left := testenv.Ls(t, dir); len(left) > 0 {
			t.Errorf("%s has %q, want nothing", dir, left)
		}
	}
}

func TestAFullDiskLeavesNothingOfAPull(t *testing.T) {
	d := testenv.SmallDisk(t, 1<<20)
	name := testenv.Registry(t, nil) + "/app"
	testenv.Push(t, testenv.Image(t, testenv.Tar(t, file("big", strings.Repeat("\x00", 3<<20)))), name)
	if _, err := Pull(t.Context(), d, parse(t, name)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Pull = %v, want no space left on device", err)
	}
	for _, dir := range []string{d.AllTmp(), d.Layers(), d.Images()} {
		if left := testenv.Ls(t, dir); len(left) > 0 {
			t.Errorf("%s has %q, want nothing", dir, left)
		}
	}
}

func TestManyMayPullAtOnce(t *testing.T) {
	d := testenv.Dirs(t)
	host := testenv.Registry(t, nil)
	var images []layers.Image
	var refs []pull.Reference
	base := testenv.Tar(t, file("base", strings.Repeat("base\n", 10_000)))
	for i := range 4 {
		img := testenv.Image(t, base, testenv.Tar(t, file("own", fmt.Sprint(i))))
		name := fmt.Sprintf("%s/app:v%d", host, i)
		testenv.Push(t, img, name)
		refs, images = append(refs, parse(t, name)), append(images, layers.Image{ID: testenv.ID(t, img)})
	}
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			n := i % len(refs)
			img, err := Pull(t.Context(), d, refs[n])
			if err != nil || img.ID != images[n].ID {
				t.Errorf("Pull(%s) = %s, %v; want %s", refs[n], img.ID, err, images[n].ID)
			}
			if i%6 == 5 { // whoever removes an image beside it takes nothing away from the others
				if _, _, err := local.Remove(d, refs[n], false); err != nil && !errors.Is(err, local.ErrNoImage) {
					t.Errorf("local.Remove(%s) = %v", refs[n], err)
				}
			}
		})
	}
	all.Wait()
	for _, ref := range refs {
		img, err := Get(t.Context(), d, ref, t.Logf)
		if err != nil || len(img.Layers) != 2 {
			t.Errorf("Get(%s) = %+v, %v; want 2 layers", ref, img, err)
		}
	}
	if got := testenv.Ls(t, d.Layers()); len(got) != 5 {
		t.Errorf("layers has %q, want one that all share and four", got)
	}
	if left := testenv.Ls(t, d.AllTmp()); len(left) > 0 {
		t.Errorf("tmp has %q, want nothing", left)
	}
}

func BenchmarkAdd(b *testing.B) {
	testenv.NeedRoot(b)
	img, _, err := sample.Image()
	if err != nil {
		b.Fatal(err)
	}
	d := testenv.Dirs(b)
	for b.Loop() {
		b.StopTimer()
		image := stage(b, d, pull.Sample, img)
		b.StartTimer()
		if _, err := Add(b.Context(), d, parse(b, pull.Sample), image); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, _, err := local.Remove(d, parse(b, pull.Sample), false); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func TestALayerIsKeptAsItWasSent(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	img := add(t, d, "app", small(t, "a", 2))
	for _, l := range img.Layers {
		blob := filepath.Join(d.Layer(strings.TrimPrefix(l.ChainID, "sha256:")), "blob")
		raw, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		if got := "sha256:" + sum(raw); got != l.Digest || int64(len(raw)) != l.Size {
			t.Errorf("%s has %d bytes and the digest %s, want %d and %s", blob, len(raw), got, l.Size, l.Digest)
		}
	}
}

// gzip has a checksum of its own, which says less: what was changed, and whose fault it is, the digest tells.
func TestAByteThatWasChangedIsToldByTheDigest(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	image := stage(t, d, "app", small(t, "a", 1))
	files, err := dirs.Glob(d.Tmp(image), "*.tar.gz")
	if err != nil || len(files) != 1 {
		t.Fatalf("layers are %q, %v; want one", files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(files[0], raw, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Add(t.Context(), d, parse(t, "app"), image)
	if want := filepath.Base(files[0])[:64]; !errors.Is(err, layers.ErrDigest) || !strings.Contains(err.Error(), "the manifest says sha256:"+want) {
		t.Errorf("Add = %v, want ErrDigest, and the digest %s", err, want)
	}
}
