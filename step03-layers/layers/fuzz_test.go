//go:build linux

package layers

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocker/step01-pull/shared/dirs"
)

func FuzzManifest(f *testing.F) {
	digest := strings.Repeat("5", 64)
	config := []byte(`{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["sha256:` + digest + `"]}}`)
	f.Add([]byte(`[{"Config": "sha256:`+digest+`", "Layers": ["`+digest+`.tar.gz"]}]`), config)
	f.Add([]byte(`[{"Config": "`+digest+`.json", "RepoTags": ["a:b"], "Layers": ["`+digest+`/layer.tar"]}]`), config)
	f.Add([]byte(`[{"Config": "`+digest+`.json"}]`), []byte(`{"os": "linux", "architecture": "amd64"}`)) // FROM scratch: an image without layers is one
	f.Add([]byte(`[{"Config": "../../x", "Layers": ["../x"]}]`), []byte("{}"))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		dir := t.TempDir()
		var all []struct{ Config string }
		name := "config"
		if json.Unmarshal(manifest, &all) == nil && len(all) == 1 && filepath.IsLocal(all[0].Config) && !strings.Contains(all[0].Config, "/") {
			name = all[0].Config
		}
		for name, content := range map[string][]byte{name: config, "manifest.json": manifest} {
			os.WriteFile(filepath.Join(dir, name), content, 0o644) // a name that no file can have is refused below
		}
		read, parsed, _, err := ReadManifest(dir, dirs.Short(sum(config)))
		if err != nil {
			return
		}
		if len(read.Layers) != len(parsed.RootFS.DiffIDs) {
			t.Errorf("%d layers, %d diffIDs", len(read.Layers), len(parsed.RootFS.DiffIDs))
		}
		for _, name := range append(Names(read), ChainIDs(parsed.RootFS.DiffIDs)...) {
			if !filepath.IsLocal(name) || strings.Contains(name, "/") || name == "." || strings.ContainsRune(name, 0) {
				t.Errorf("a layer is called %q", name)
			}
		}
	})
}
