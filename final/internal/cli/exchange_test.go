//go:build linux

package cli_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/step01-pull/shared/testenv"
)

// tool runs another program, and returns what it wrote.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	testenv.Needs(t, name)
	output, err := exec.Command(name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(output)
}

// newPodman returns podman with a store of its own, until the test ends.
func newPodman(t testing.TB) func(args ...string) string {
	t.Helper()
	store, err := os.MkdirTemp("", "p") // podman takes no runroot of more than 50 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(store) })
	return func(args ...string) string {
		t.Helper()
		return tool(t, "podman", append([]string{"--root", store + "/root", "--runroot", store + "/run", "--storage-driver", "vfs"}, args...)...)
	}
}

// packings are images as registries have them: schema 2 with gzip, OCI with plain layers and with zstd.
func packings(t testing.TB) map[string]v1.Image {
	t.Helper()
	lower := testenv.Tar(t, testenv.Dir("a"), testenv.File("a/1", strings.Repeat("one", 1000)))
	upper := testenv.Tar(t, testenv.File("a/.wh.1", ""), testenv.File("b", "2"))
	oci := mutate.ConfigMediaType(mutate.MediaType(testenv.Image(t), types.OCIManifestSchema1), types.OCIConfigJSON)
	plain, err := mutate.AppendLayers(oci, static.NewLayer(lower, types.OCIUncompressedLayer), static.NewLayer(upper, types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	small, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(lower)), nil },
		tarball.WithCompression(compression.ZStd), tarball.WithMediaType(types.OCILayerZStd))
	if err != nil {
		t.Fatal(err)
	}
	zstd, err := mutate.AppendLayers(oci, small)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]v1.Image{"schema2": testenv.Image(t, lower, upper), "plain": plain, "zstd": zstd}
}

func digestOf(t testing.TB, img v1.Image) string {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func TestWhatIsPushedKeepsItsDigest(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "skopeo")
	debian, certDir := debianRegistry(t)
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	login := exec.Command("gocker", "login", "-u", "guest", "--password-stdin", "--cert-dir", certDir, debian)
	login.Stdin = strings.NewReader("secret\n")
	if output, err := login.CombinedOutput(); err != nil {
		t.Fatalf("login: %v\n%s", err, output)
	}
	from, to := testenv.Registry(t, nil), testenv.Registry(t, nil)
	for kind, img := range packings(t) {
		t.Run(kind, func(t *testing.T) {
			d := emptyDirs(t)
			testenv.Push(t, img, from+"/"+kind)
			mustGocker(t, d, "pull", from+"/"+kind)
			for _, registry := range []string{to, debian} {
				name := registry + "/some/" + kind + ":v1"
				mustGocker(t, d, "tag", from+"/"+kind, name)
				output := mustGocker(t, d, "push", "--cert-dir", certDir, name)
				testenv.InOrder(t, output, "The push refers to repository ["+registry+"/some/"+kind+"]", ": Pushed", "v1: digest: "+digestOf(t, img)+" size: ")
				output = mustGocker(t, d, "push", "--cert-dir", certDir, name)
				testenv.InOrder(t, output, ": Layer already exists", "v1: digest: "+digestOf(t, img))
				if quiet := mustGocker(t, d, "push", "-q", "--cert-dir", certDir, name); quiet != name+"\n" {
					t.Errorf("push -q wrote %q", quiet)
				}
				raw := tool(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", filepath.Join(config, "config.json"), "docker://"+name)
				if got := digest([]byte(raw)); got != digestOf(t, img) {
					t.Errorf("skopeo finds %s, want %s:\n%s", got, digestOf(t, img), raw)
				}
				// What was pushed needs no more than a question to be known again.
				testenv.InOrder(t, mustGocker(t, d, "pull", "--cert-dir", certDir, name), "Image is up to date for "+name)
			}
			mustGocker(t, d, "system", "check")
		})
	}
}

func digest(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

func TestAPushFailsClearly(t *testing.T) {
	testenv.NeedRoot(t)
	debian, certDir := debianRegistry(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	from := testenv.Registry(t, nil)
	testenv.Push(t, testenv.Image(t, testenv.Tar(t, testenv.File("a", "1"))), from+"/image")
	d := emptyDirs(t)
	mustGocker(t, d, "pull", from+"/image")
	for name, says := range map[string]string{
		debian + "/image":    "gocker login " + debian,
		"127.0.0.1:1/image":  "connection refused",
		from + "/not-tagged": "gocker tag IMAGE " + from + "/not-tagged:latest",
	} {
		if name != from+"/not-tagged" {
			mustGocker(t, d, "tag", from+"/image", name)
		}
		if output, err := gocker(t, d, "push", "--cert-dir", certDir, name); err == nil || !strings.Contains(output, says) {
			t.Errorf("gocker push %s: %v, want it to fail and say %q:\n%s", name, err, says, output)
		}
	}
}

// Images come out of every kind of archive with the same id, and what we save is read by skopeo and podman.
func TestArchivesAreExchanged(t *testing.T) {
	testenv.NeedRoot(t)
	address := testenv.Registry(t, nil)
	d := emptyDirs(t)
	all := packings(t)
	var names []string
	for kind, img := range all {
		names = append(names, address+"/"+kind+":v1")
		testenv.Push(t, img, address+"/"+kind+":v1")
		mustGocker(t, d, "pull", address+"/"+kind+":v1")
	}
	slices.Sort(names)
	id := func(name string) string {
		kind, _, _ := strings.Cut(path.Base(name), ":")
		config, err := all[kind].ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		return config.String()
	}
	dir := t.TempDir()
	loads := func(t *testing.T, file string, want ...string) {
		t.Helper()
		other := emptyDirs(t)
		output := mustGocker(t, other, "load", "-i", file)
		for _, name := range want {
			if !strings.Contains(output, "Loaded image: "+name+"\n") {
				t.Errorf("load -i %s does not say %s:\n%s", file, name, output)
			}
			if got := strings.TrimSpace(mustGocker(t, other, "images", "-q", "--no-trunc", name)); got != id(name) {
				t.Errorf("load -i %s: %s is %q, want %q", file, name, got, id(name))
			}
		}
		mustGocker(t, other, "system", "check")
	}

	for _, format := range []string{"docker-archive", "oci-archive"} {
		file := filepath.Join(dir, format)
		mustGocker(t, d, append([]string{"save", "--format", format, "-o", file}, names...)...)
		t.Run(format+" to gocker", func(t *testing.T) {
			loads(t, file, names...)
			tool(t, "gzip", "-k", file)
			loads(t, file+".gz", names...)
		})
		t.Run(format+" to skopeo", func(t *testing.T) {
			for _, name := range names {
				out := t.TempDir()
				tool(t, "skopeo", "copy", format+":"+file+":"+name, "dir:"+out)
				if raw, err := os.ReadFile(filepath.Join(out, "manifest.json")); err != nil || !bytes.Contains(raw, []byte(id(name))) {
					t.Errorf("skopeo finds no config %s of %s: %v\n%s", id(name), name, err, raw)
				}
			}
		})
		t.Run(format+" from skopeo", func(t *testing.T) {
			for _, name := range names {
				if format == "docker-archive" && strings.Contains(name, "zstd") {
					continue // skopeo cannot write it
				}
				file := filepath.Join(t.TempDir(), "archive")
				tool(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+name, format+":"+file+":"+name)
				if format == "docker-archive" || strings.Contains(name, "schema2") { // skopeo makes another config of it
					mustGocker(t, emptyDirs(t), "load", "-i", file)
					continue
				}
				loads(t, file, name)
			}
		})
	}
	t.Run("folder from skopeo", func(t *testing.T) {
		folder := t.TempDir()
		name := names[0]
		tool(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+name, "oci:"+folder+":"+name)
		loads(t, folder, name)
		plain := t.TempDir()
		tool(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+name, "dir:"+plain)
		if output := mustGocker(t, testenv.Dirs(t), "load", "-i", plain); output != "Loaded image ID: "+id(name)+"\n" {
			t.Errorf("load -i of skopeo's dir: wrote %q, want the id %s", output, id(name))
		}
	})
	t.Run("podman", func(t *testing.T) {
		podman := newPodman(t)
		podman("load", "-i", filepath.Join(dir, "docker-archive"))
		for _, name := range names {
			if got := "sha256:" + strings.TrimPrefix(strings.TrimSpace(podman("images", "-q", "--no-trunc", name)), "sha256:"); got != id(name) {
				t.Errorf("podman has %s as %q, want %q", name, got, id(name))
			}
		}
		file := filepath.Join(dir, "podman.tar")
		podman(append([]string{"save", "-m", "--format", "docker-archive", "-o", file}, names...)...)
		loads(t, file, names...)
	})
	t.Run("plain layers are compressed for a registry", func(t *testing.T) {
		testenv.Needs(t, "podman") // it saves plain layers
		file, other := filepath.Join(dir, "podman.tar"), emptyDirs(t)
		mustGocker(t, other, "load", "-i", file)
		mustGocker(t, other, "tag", names[0], address+"/again:v1")
		mustGocker(t, other, "push", address+"/again:v1")
		pushed, err := crane.Pull(address + "/again:v1")
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := pushed.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range manifest.Layers {
			if layer.MediaType != types.OCILayer {
				t.Errorf("a layer was pushed as %s", layer.MediaType)
			}
		}
		third := emptyDirs(t)
		mustGocker(t, third, "pull", address+"/again:v1")
		mustGocker(t, third, "system", "check")
	})
}

// hostile archives: what they say, and what must not come of it.
func TestHostileArchivesLeaveNothing(t *testing.T) {
	testenv.NeedRoot(t)
	layer := testenv.Tar(t, testenv.File("a", "1"))
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, digest(layer))
	manifest := func(config, layers string) string {
		return fmt.Sprintf(`[{"Config":%q,"RepoTags":["app:v1"],"Layers":[%q]}]`, config, layers)
	}
	blob := func(content string) testenv.Entry {
		return testenv.File("blobs/sha256/"+strings.TrimPrefix(digest([]byte(content)), "sha256:"), content)
	}
	descriptor := func(mediaType, content string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest([]byte(content)), len(content))
	}
	ociManifest := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`,
		descriptor(string(types.OCIConfigJSON), config), descriptor(string(types.OCIUncompressedLayer), string(layer)))
	index := func(manifest string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s]}`, descriptor(string(types.OCIManifestSchema1), manifest))
	}
	layout := testenv.File("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	wrong := blob(ociManifest)
	wrong.Content = strings.Replace(wrong.Content, "2", "3", 1)
	wrongLayer := blob(string(layer))
	wrongLayer.Content = string(testenv.Tar(t, testenv.File("a", "2")))
	for name, tt := range map[string]struct {
		entries []testenv.Entry
		says    string
	}{
		"nothing in it":                {nil, "not a tar archive"},
		"no image":                     {[]testenv.Entry{testenv.File("x", "")}, "neither manifest.json"},
		"a docker before 1.10":         {[]testenv.Entry{testenv.File("repositories", "{}")}, "docker before 1.10"},
		"a manifest that is no JSON":   {[]testenv.Entry{testenv.File("manifest.json", "{")}, "manifest.json"},
		"a manifest that is huge":      {[]testenv.Entry{testenv.File("manifest.json", strings.Repeat(" ", 9<<20))}, "larger than"},
		"20,000 names":                 {[]testenv.Entry{testenv.File("manifest.json", `[{"Config":"c","Layers":["l"],"RepoTags":[`+strings.Repeat(`"a",`, 19999)+`"a"]}]`)}, "20000 names"},
		"20,000 images":                {[]testenv.Entry{testenv.File("manifest.json", "["+strings.Repeat("{},", 19999)+"{}]")}, "20000 images"},
		"a name that is none":          {[]testenv.Entry{testenv.File("manifest.json", `[{"Config":"c","RepoTags":["../../x:1"]}]`)}, "not an image reference"},
		"a config from outside":        {[]testenv.Entry{testenv.File("manifest.json", manifest("../../../../../../../../etc/passwd", "l"))}, "escapes"},
		"a config that is a link":      {[]testenv.Entry{testenv.Symlink("c.json", "/etc/passwd"), testenv.File("manifest.json", manifest("c.json", "l"))}, "leads out"},
		"a config with a wrong name":   {[]testenv.Entry{testenv.File(strings.Repeat("0", 64)+".json", config), testenv.File("manifest.json", manifest(strings.Repeat("0", 64)+".json", "l"))}, "does not match its digest"},
		"a config with other layers":   {[]testenv.Entry{testenv.File("c.json", `{"rootfs":{"type":"layers","diff_ids":[]}}`), testenv.File("manifest.json", manifest("c.json", "l"))}, "lists 1 layers, the config 0"},
		"a layer from outside":         {[]testenv.Entry{testenv.File("c.json", config), testenv.File("manifest.json", manifest("c.json", "../../../x/layer.tar"))}, "escapes"},
		"a layer that is a folder":     {[]testenv.Entry{testenv.File("c.json", config), testenv.Dir("l"), testenv.File("manifest.json", manifest("c.json", "l"))}, "no regular file"},
		"a layer that is not there":    {[]testenv.Entry{testenv.File("c.json", config), testenv.File("manifest.json", manifest("c.json", "l"))}, "no such file"},
		"a layer that is another one":  {[]testenv.Entry{testenv.File("c.json", config), testenv.File("l", string(testenv.Tar(t))), testenv.File("manifest.json", manifest("c.json", "l"))}, "diffID"},
		"an entry with a bad name":     {[]testenv.Entry{testenv.File("../x", "")}, "leads out"},
		"a layout with a wrong digest": {[]testenv.Entry{layout, testenv.File("index.json", index(ociManifest)), wrong}, "does not match its digest"},
		"a layout with a wrong layer":  {[]testenv.Entry{layout, testenv.File("index.json", index(ociManifest)), blob(ociManifest), blob(config), wrongLayer}, "does not match its digest"},
		"a layout without its config":  {[]testenv.Entry{layout, testenv.File("index.json", index(ociManifest)), blob(ociManifest)}, "no such file"},
		"a digest that is a path":      {[]testenv.Entry{layout, testenv.File("index.json", `{"schemaVersion":2,"manifests":[{"digest":"sha256:../../../../etc/passwd"}]}`)}, "index.json"},
	} {
		t.Run(name, func(t *testing.T) {
			d := emptyDirs(t)
			file := filepath.Join(t.TempDir(), "archive")
			if err := os.WriteFile(file, testenv.Tar(t, tt.entries...), 0o600); err != nil {
				t.Fatal(err)
			}
			output, err := gocker(t, d, "load", "-i", file)
			if err == nil || !strings.Contains(output, tt.says) {
				t.Errorf("load: %v, want it to fail and say %q:\n%s", err, tt.says, output)
			}
			for _, folder := range []string{d.AllTmp(), d.Layers(), d.Images()} {
				if left := testenv.Ls(t, folder); len(left) > 0 {
					t.Errorf("%s has %q", folder, left)
				}
			}
		})
	}
}
