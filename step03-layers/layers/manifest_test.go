//go:build linux

package layers

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"gocker/step01-pull/shared/dirs"
)

// The numbers that the workshop's notes ask about: see docs/layer-hashes.md.
func TestNotesHashes(t *testing.T) {
	const digest = "c059bfaa849c4d8e4aecaeb3a10c2d9b3d85f5165c66ad3a4d937758128c4d18"
	raw, err := os.ReadFile(filepath.Join("testdata", digest+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := sum(raw); got != digest || dirs.Short(got) != "c059bfaa849c" {
		t.Errorf("the config's digest is %s, want %s", got, digest)
	}
	config, err := v1.ParseConfigFile(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	const diffID = "8d3ac3489996423f53d6087c81180006263b79f206d3fdec9e66f0e27ceb8759"
	if got := ChainIDs(config.RootFS.DiffIDs); !slices.Equal(got, []string{diffID}) {
		t.Errorf("ChainIDs = %q; a single layer's is its diffID, %s", got, diffID)
	}
	// The legacy writer's v1 ID of a topmost layer: its compressed digest, the parent's v1 ID (none), the config.
	const compressed = "59bf1c3509f33515622619af21ed55bbe26d24913cedbca106468a5fb37a50c3"
	v1ID := sum([]byte(compressed + " " + "" + " " + string(raw)))
	if want := "47d7af55c64c2611fde7f765c544f305238fb7c7fd7d5118e170202f887e9987"; v1ID != want {
		t.Errorf("the v1 ID is %s, want %s", v1ID, want)
	}
}

// The example of the image-spec's config.md, "Layer ChainID".
func TestChainIDsNameALayerWithAllBelow(t *testing.T) {
	a, b, c := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("b", 64)}, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("c", 64)}
	ab := fmt.Sprintf("%x", sha256.Sum256([]byte(a.String()+" "+b.String())))
	abc := fmt.Sprintf("%x", sha256.Sum256([]byte("sha256:"+ab+" "+c.String())))
	if got, want := ChainIDs([]v1.Hash{a, b, c}), []string{a.Hex, ab, abc}; !slices.Equal(got, want) {
		t.Errorf("ChainIDs = %q, want %q", got, want)
	}
}

func TestNoTwoLayersOfAnImageHaveOneName(t *testing.T) {
	for _, tt := range []struct{ files, want []string }{
		{[]string{"47d7af55c64c0000/layer.tar", "59bf1c3509f30000.tar.gz", "sha256:0000"}, []string{"47d7af55c64c", "59bf1c3509f3", "0000"}},
		{[]string{"a.tar", "a.tar", "a-2.tar", "a.tar"}, []string{"a", "a-2", "a-2-2", "a-3"}},
		{[]string{"layer.tar", "./layer.tar", ".tar", "a/.tar", "layer/layer.tar"}, []string{"layer", "layer-2", "layer-3", "layer-4", "layer-5"}},
	} {
		if got := Names(tarball.Descriptor{Layers: tt.files}); !slices.Equal(got, tt.want) {
			t.Errorf("Names(%q) = %q, want %q", tt.files, got, tt.want)
		}
	}
}
