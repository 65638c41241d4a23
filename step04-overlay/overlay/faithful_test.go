//go:build linux

package overlay

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step01-pull/shared/tree"
	"gocker/step04-overlay/randomimage"
)

const images = 300

var podmans = flag.Int("podman", 5, "how many of the images podman unpacks too; it is slow")

// inWords is what the layers are in words, for whoever finds a test failing.
func inWords(layers [][]testenv.Entry) string {
	var s strings.Builder
	for i, entries := range layers {
		fmt.Fprintf(&s, "layer %d\n", i+1)
		for _, e := range entries {
			fmt.Fprintf(&s, "  %c %o %q %q\n", e.Typeflag, e.Mode, e.Name, e.Linkname)
		}
	}
	return strings.ReplaceAll(s.String(), strings.Repeat("long", 50), "long…")
}

func readFacts(t testing.TB, root string) tree.Facts {
	t.Helper()
	facts, err := tree.ReadFacts(root)
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

func TestTheKernelMergesLayersAsTheImageSpecSays(t *testing.T) {
	testenv.NeedMachinesRoot(t, "its files have owners that are in no range")
	d := testenv.Dirs(t)
	for seed := range uint64(images) {
		t.Run(fmt.Sprint("image ", seed), func(t *testing.T) {
			layers, want := randomimage.New(seed)
			t.Log(inWords(layers))
			f := mount(t, d, unpacked(t, d, randomimage.Image(t, layers)))
			if wrong := randomimage.Differences(readFacts(t, f.Mnt()), want.Facts()) + randomimage.HiddenButThere(f.Mnt(), layers, want); wrong != "" {
				t.Error("the merged view is not right:\n" + wrong)
			}
		})
	}
}

// The model may be wrong as well. Where two programs of others agree it agrees with them, though each of them is wrong
// about some images.
func TestTheModelIsRightWhereUmociAndPodmanAgree(t *testing.T) {
	testenv.NeedRoot(t)
	for _, program := range []string{"umoci", "podman"} {
		if _, err := exec.LookPath(program); err != nil {
			testenv.Lacks(t, program)
		}
	}
	podman := newPodman(t)
	right := map[string]int{}
	for seed := range uint64(images) {
		layers, want := randomimage.New(seed)
		layout := podman.layout(t, randomimage.Image(t, layers))
		umociFacts := unpackWithUmoci(t, layout)
		if randomimage.Differences(umociFacts, want.Facts()) == "" {
			right["umoci"]++
		}
		if seed >= uint64(*podmans) {
			continue
		}
		podmanFacts := podman.unpack(t, layout)
		if randomimage.Differences(podmanFacts, want.Facts()) == "" {
			right["podman"]++
		}
		if randomimage.Differences(withoutRoot(podmanFacts), withoutRoot(want.Facts())) == "" {
			right["podman but for /"]++
		}
		if wrong := bothDiffer(umociFacts, podmanFacts, want.Facts()); wrong != "" {
			t.Errorf("image %d: the model differs from both\n%s%s", seed, wrong, inWords(layers))
		}
	}
	t.Logf("umoci is right in %d of %d images; podman in %d of %d, and in %d but for the root folder", right["umoci"], images,
		right["podman"], *podmans, right["podman but for /"])
}

func withoutRoot(facts tree.Facts) tree.Facts {
	facts = maps.Clone(facts)
	maps.DeleteFunc(facts, func(f tree.Fact, _ string) bool { return f.Name == "." })
	return facts
}

// bothDiffer says where a and b agree with each other and not with want. Neither may have anything: they failed.
func bothDiffer(a, b, want tree.Facts) string {
	if len(a) == 0 || len(b) == 0 {
		return ""
	}
	agreed := maps.Clone(want) // on anything else the model has its own mind
	for fact, what := range a {
		if other, ok := b[fact]; ok && other == what {
			agreed[fact] = what
		}
	}
	for fact := range want {
		_, hasA := a[fact]
		_, hasB := b[fact]
		if !hasA && !hasB {
			delete(agreed, fact)
		}
	}
	return randomimage.Differences(agreed, want)
}

// unpackWithUmoci returns nothing where umoci fails.
func unpackWithUmoci(t testing.TB, layout string) tree.Facts {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if out, err := exec.Command("umoci", "raw", "unpack", "--image", layout, root).CombinedOutput(); err != nil {
		t.Logf("umoci: %v: %s", err, out)
		return nil
	}
	return readFacts(t, root)
}

// A podman has a store of its own, which is this folder.
type podman string

func newPodman(t testing.TB) podman {
	t.Helper()
	store, err := os.MkdirTemp("", "") // podman refuses the long names of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Unmount(filepath.Join(store, "root", "overlay"), unix.MNT_DETACH) // podman has mounted it on itself
		if err := os.RemoveAll(store); err != nil {
			t.Error(err)
		}
	})
	return podman(store)
}

// layout writes an OCI layout, and returns its name.
func (p podman) layout(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := filepath.Join(string(p), "layout")
	index, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = index.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir + ":latest"
}

func (p podman) run(t testing.TB, args ...string) (string, bool) {
	t.Helper()
	all := append([]string{"--root", string(p) + "/root", "--runroot", string(p) + "/run", "--storage-driver", "overlay"}, args...)
	out, err := exec.Command("podman", all...).CombinedOutput()
	if err != nil {
		t.Logf("podman %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), err == nil
}

// unpack returns nothing where podman fails.
func (p podman) unpack(t testing.TB, layout string) tree.Facts {
	t.Helper()
	id, ok := p.run(t, "pull", "--quiet", "oci:"+layout)
	if !ok {
		return nil
	}
	defer p.run(t, "rmi", "--force", id)
	root, ok := p.run(t, "image", "mount", id)
	if !ok {
		return nil
	}
	defer p.run(t, "image", "unmount", id)
	return readFacts(t, root)
}
