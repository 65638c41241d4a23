//go:build linux

package road

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
)

func TestDamagedImagesJSONIsKeptAsItIs(t *testing.T) {
	host := testenv.Registry(t, nil)
	img := small(t, "a", 1)
	testenv.Push(t, img, host+"/app")
	ref := parse(t, host+"/app")
	for what, content := range map[string]string{
		"empty":                         "",
		"null":                          "null\n",
		"cut short":                     `{"app": {"latest": "0123456789ab"`,
		"of another shape":              `["app"]`,
		"a name without tags":           `{"app": "0123456789ab"}`,
		"an image that is none":         `{"app": {"latest": "alpine"}}`,
		"an image that leads elsewhere": `{"app": {"latest": "../../../etc"}}`,
		"something after the end":       `{"app": {"latest": "0123456789ab"}} {}`,
	} {
		t.Run(what, func(t *testing.T) {
			d := testenv.Dirs(t)
			image := stage(t, d, "app", small(t, "b", 1))
			if err := os.MkdirAll(d.Images(), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(d.ImagesJSON(), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			for call, do := range map[string]func() error{
				"List":   func() error { _, err := layers.List(d); return err },
				"Lookup": func() error { _, err := local.Lookup(d, ref); return err },
				"Get":    func() error { _, err := Get(t.Context(), d, ref, t.Logf); return err },
				"Add":    func() error { _, err := Add(t.Context(), d, ref, image); return err },
				"Pull":   func() error { _, err := Pull(t.Context(), d, ref); return err },
				"Remove": func() error { _, _, err := local.Remove(d, ref, false); return err },
			} {
				if err := do(); !errors.Is(err, layers.ErrDamaged) || !strings.Contains(err.Error(), "images.json") || advice.Of(err) == "" {
					t.Errorf("%s = %v, want layers.ErrDamaged, the file's name and advice", call, err)
				}
				if got, err := os.ReadFile(d.ImagesJSON()); err != nil || string(got) != content {
					t.Errorf("after %s images.json is %q, %v; want it as it was, %q", call, got, err, content)
				}
			}
		})
	}
}

func TestRemoveTakesNamesAndWithTheLastTheImage(t *testing.T) {
	d := testenv.Dirs(t)
	base, own := testenv.Tar(t, file("base", "1")), testenv.Tar(t, file("own", "1"))
	other := add(t, d, "other", testenv.Image(t, base))
	img := testenv.Image(t, base, own)
	app := add(t, d, "app:v1", img)
	add(t, d, "app:v2", img)
	chainID := app.Layers[1].ChainID

	remove := func(name, wantUntagged, wantDeleted string) {
		t.Helper()
		untagged, deleted, err := local.Remove(d, parse(t, name), false)
		if got := strings.Join(untagged, " "); err != nil || got != wantUntagged {
			t.Errorf("local.Remove(%s) untags %q, %v; want %q", name, got, err, wantUntagged)
		}
		if got := strings.Join(deleted, " "); got != wantDeleted {
			t.Errorf("local.Remove(%s) deletes %q, want %q", name, got, wantDeleted)
		}
	}
	if _, _, err := local.Remove(d, parse(t, "app"), false); !errors.Is(err, local.ErrNoImage) {
		t.Errorf("Remove of a name that is not here = %v, want local.ErrNoImage", err)
	}
	if _, _, err := local.Remove(d, parse(t, app.ID), false); !errors.Is(err, local.ErrInUse) {
		t.Errorf("Remove of an image that has two names, by its id = %v, want local.ErrInUse", err)
	}
	if _, _, err := local.Remove(d, parse(t, app.ID+":v1"), false); !errors.Is(err, local.ErrNoImage) {
		t.Errorf("Remove of an id with a tag = %v, want local.ErrNoImage", err)
	}
	remove("app:v1", "app:v1", "")
	if _, err := layers.Open(d, app.ID); err != nil {
		t.Errorf("Open of an image that has another name = %v", err)
	}
	remove(app.ID, "app:v2", "sha256:"+app.Digest+" "+chainID)
	if _, err := layers.Open(d, other.ID); err != nil {
		t.Errorf("Open of an image that shared a layer = %v", err)
	}
	remove("other", "other:latest", "sha256:"+other.Digest+" "+other.Layers[0].ChainID)
	if got := testenv.Tree(t, d.Images()) + testenv.Tree(t, d.Layers()); got != ". drwx------\nimages.json -rw-r--r-- \"{}\\n\"\n. drwx------\n" {
		t.Errorf("what is left is\n%s", got)
	}
}

func TestRemoveOfADigestSpellsItAsOne(t *testing.T) {
	d := testenv.Dirs(t)
	img := small(t, "a", 1)
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	name := "app@" + hash.String()
	add(t, d, name, img)
	if untagged, _, err := local.Remove(d, parse(t, name), false); err != nil || !slices.Equal(untagged, []string{name}) {
		t.Errorf("Remove = %q, %v; want %q", untagged, err, name)
	}
}

func TestANameMovesToTheImageThatWasAddedLast(t *testing.T) {
	d := testenv.Dirs(t)
	first := add(t, d, "app", small(t, "a", 1))
	second := add(t, d, "app", small(t, "b", 1))
	if image, err := local.Lookup(d, parse(t, "app")); err != nil || image != second.ID {
		t.Errorf("Lookup = %s, %v; want %s", image, err, second.ID)
	}
	if image, err := local.Lookup(d, parse(t, first.ID)); err != nil || image != first.ID {
		t.Errorf("Lookup by id = %s, %v; want %s", image, err, first.ID)
	}
	// It has no name, and is removed by its id.
	if _, deleted, err := local.Remove(d, parse(t, first.ID), false); err != nil || len(deleted) != 2 {
		t.Errorf("Remove by id = %q, %v; want the image and its layer", deleted, err)
	}
}

func TestAnImageInUseStays(t *testing.T) {
	d := testenv.Dirs(t)
	img := add(t, d, "app", small(t, "a", 1))
	// What overlay.Create leaves: step 4's tests go all the way.
	if err := os.MkdirAll(d.Container("0123456789ab"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(d.Image(img.ID), filepath.Join(d.Container("0123456789ab"), "image")); err != nil {
		t.Fatal(err)
	}
	before := testenv.Tree(t, d.Root)
	_, _, err := local.Remove(d, parse(t, "app"), false)
	if !errors.Is(err, local.ErrInUse) || !strings.Contains(err.Error(), "0123456789ab") || advice.Of(err) == "" {
		t.Errorf("Remove = %v, want local.ErrInUse, the container's id and advice", err)
	}
	if after := testenv.Tree(t, d.Root); after != before {
		t.Errorf("Remove left\n%swant\n%s", after, before)
	}
	if err := os.RemoveAll(d.Container("0123456789ab")); err != nil {
		t.Fatal(err)
	}
}

func TestTheNextCommandRemovesWhatACrashLeft(t *testing.T) {
	d := testenv.Dirs(t)
	living, err := dirs.NewPartial(d.Layers())
	if err != nil {
		t.Fatal(err)
	}
	defer living.Discard()
	var dead []string
	for _, parent := range []string{d.AllTmp(), d.Images(), d.Layers()} {
		dead = append(dead, filepath.Join(parent, ".partial-dead"))
	}
	dead = append(dead, d.Layer(strings.Repeat("0", 64)), filepath.Join(d.Images(), ".images.json123"))
	for _, name := range dead {
		if err := os.MkdirAll(filepath.Join(name, "fs"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// renameio's unfinished file is a file.
	if err := errors.Join(os.RemoveAll(dead[4]), os.WriteFile(dead[4], nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	add(t, d, "app", small(t, "a", 1))
	add(t, d, "other", small(t, "b", 1))
	if _, _, err := local.Remove(d, parse(t, "other"), false); err != nil {
		t.Fatal(err)
	}
	for _, name := range dead {
		if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if _, err := os.Stat(living.Path); err != nil {
		t.Errorf("the living one: %v", err)
	}
}

// TestMain lets the test binary be the process that is killed: it pulls and removes until somebody ends it.
func TestMain(m *testing.M) {
	testenv.AsRootInside()
	if root := os.Getenv("GOCKER_TEST_PULL"); root != "" {
		pullForever(dirs.Dirs{Root: root, Run: root + "-run"}, os.Args[1:])
	}
	os.Exit(m.Run())
}

func pullForever(d dirs.Dirs, names []string) {
	for i := 0; ; i++ {
		ref, err := pull.ParseReference(names[i%len(names)])
		if err == nil {
			_, err = Get(context.Background(), d, ref, func(string, ...any) {})
		}
		if err == nil && i%3 == 2 {
			_, _, err = local.Remove(d, ref, false)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func TestAKillAtAnyMomentLeavesTheOldStateOrTheNew(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	host := testenv.Registry(t, nil)
	var references []string
	base := testenv.Tar(t, file("base", strings.Repeat("base\n", 50_000)))
	for i := range 2 {
		name := fmt.Sprintf("%s/app:v%d", host, i)
		testenv.Push(t, testenv.Image(t, base, testenv.Tar(t, file("own", fmt.Sprint(i)))), name)
		references = append(references, name)
	}
	random := rand.New(rand.NewPCG(3, 3))
	for range 20 {
		victim := exec.Command("/proc/self/exe", references...)
		victim.Env = append(os.Environ(), "GOCKER_TEST_PULL="+d.Root)
		var stderr strings.Builder
		victim.Stderr = &stderr
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+random.IntN(60)) * time.Millisecond)
		victim.Process.Kill()
		victim.Wait()
		if stderr.Len() > 0 {
			t.Fatalf("after a kill: %s", stderr.String())
		}
		images, err := layers.List(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, tags := range images {
			for _, image := range tags {
				img, err := layers.Open(d, image)
				if err != nil {
					t.Fatalf("images.json names an image that is not whole: %v", err)
				}
				if got, err := os.ReadFile(filepath.Join(img.Stack(d)[1], "own")); err != nil || string(got) != "0" && string(got) != "1" {
					t.Errorf("its upper layer has %q in own, %v", got, err)
				}
			}
		}
	}
	for _, name := range references {
		if _, err := Pull(t.Context(), d, parse(t, name)); err != nil {
			t.Errorf("Pull after all the kills = %v", err)
		}
		if _, _, err := local.Remove(d, parse(t, name), false); err != nil {
			t.Errorf("Remove after all the kills = %v", err)
		}
	}
	for dir, want := range map[string]int{d.AllTmp(): 0, d.Layers(): 0, d.Images(): 1} {
		if left := testenv.Ls(t, dir); len(left) != want {
			t.Errorf("%s has %q, want %d", dir, left, want)
		}
	}
}
