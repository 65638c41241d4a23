package sample

import (
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/shared/testenv"
)

func image(t testing.TB) v1.Image {
	t.Helper()
	img, _, err := Image()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// names lists the entries of every layer, the lowest first.
func names(t testing.TB, img v1.Image) (all [][]string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		plain, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		var names []string
		for _, name := range testenv.Names(t, plain) {
			names = append(names, path.Clean("/"+name))
		}
		all = append(all, names)
	}
	return all
}

func TestTheSameMachineMakesTheSameDigests(t *testing.T) {
	first, err := image(t).Digest()
	if err != nil {
		t.Fatal(err)
	}
	second, err := image(t).Digest()
	if err != nil || first != second {
		t.Errorf("Image twice: digests %s, %s, %v; want the same", first, second, err)
	}
}

func TestSampleHasLayersThatAddUpdateDeleteAndReplace(t *testing.T) {
	img := image(t)
	all := names(t, img)
	if len(all) < 4 {
		t.Fatalf("Image has %d layers, want at least 4", len(all))
	}
	for layer, want := range [][]string{
		{"/", "/etc/motd", "/etc/passwd", "/srv/draft", "/srv/menu/soup", "/tmp"},
		{},
		{"/etc/motd", "/srv/added/by-layer-3"},
		{"/srv/.wh.draft", "/srv/menu/.wh..wh..opq", "/srv/menu/salad"},
	} {
		for _, name := range want {
			if !slices.Contains(all[layer], name) {
				t.Errorf("layer %d has no %s", layer+1, name)
			}
		}
		if sorted := slices.Compact(slices.Sorted(slices.Values(all[layer]))); len(sorted) != len(all[layer]) {
			t.Errorf("layer %d has a name twice", layer+1)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != runtime.GOARCH || len(config.History) != len(all) || !slices.Equal(config.Config.Cmd, []string{"sh"}) {
		t.Errorf("config is for %s, with %d entries of history and Cmd %q; want %s, %d, sh", config.Architecture, len(config.History), config.Config.Cmd, runtime.GOARCH, len(all))
	}
}

// A program whose interpreter or library is missing ends with "not found", which nobody understands.
func TestEveryProgramBringsItsLibraries(t *testing.T) {
	here := map[string]bool{}
	for _, layer := range names(t, image(t)) {
		for _, name := range layer {
			here[name] = true
		}
	}
	for name := range here {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue // made by us, or no program
		}
		needed, err := libraries(name)
		if err != nil {
			t.Errorf("libraries(%q) = %v", name, err)
		}
		for _, lib := range needed {
			// The image has the file that the name leads to, by the same links.
			if real, err := filepath.EvalSymlinks(lib); err != nil || !here[real] {
				t.Errorf("%s needs %s (%s), which no layer has: %v", name, lib, real, err)
			}
		}
	}
	if sh, err := filepath.EvalSymlinks("/bin/sh"); err != nil || !here[sh] {
		t.Errorf("no layer has sh, %s: %v", sh, err)
	}
}

func TestMissingToolsAreNamed(t *testing.T) {
	defer func(all []string) { tools = all }(tools)
	tools = append(slices.Clone(tools), "no-such-tool")
	if _, missing, err := Image(); err != nil || !slices.Contains(missing, "no-such-tool") {
		t.Errorf("Image names %q as missing, %v; want no-such-tool among them", missing, err)
	}
}

func TestAScriptNeedsNoLibraries(t *testing.T) {
	for what, content := range map[string]string{"script": "#!/bin/sh\n", "empty": "", "short": "x"} {
		file := filepath.Join(t.TempDir(), what)
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := libraries(file); err != nil || len(got) > 0 {
			t.Errorf("libraries of a file that is %s = %q, %v; want none", what, got, err)
		}
	}
}

func TestServeServesTheSampleOnLoopback(t *testing.T) {
	address, err := Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("Serve = %q, want a loopback address", address)
	}
	served, err := crane.Digest(address + "/sample")
	if err != nil {
		t.Fatal(err)
	}
	if want, err := image(t).Digest(); err != nil || served != want.String() {
		t.Errorf("the digest served is %s, %v; want %s", served, err, want)
	}
}
