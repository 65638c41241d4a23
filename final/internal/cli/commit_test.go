//go:build linux

package cli_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step01-pull/shared/tree"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
	"gocker/step03-layers/merged"
)

// What a container sees is what everybody sees who unpacks the image that was made of it.
func TestACommittedContainerIsReadByOthers(t *testing.T) {
	testenv.NeedRoot(t)
	address, d := testenv.Registry(t, nil), emptyDirs(t)
	mustGocker(t, d, "pull", "-q", "sample")
	mustGocker(t, d, "run", "--name", "cc", "--cap-add", "MKNOD", "sample", "sh", "-c", `set -e
		mkdir -p /new/deep; echo one > /new/one; ln /new/one /new/deep/same; ln -s one /new/link; chmod 4755 /new/one
		touch -d '1965-03-04 05:06:07.123456789' /new/deep; chown 12:34 /new/link 2>/dev/null || true
		mknod /new/fifo p; mknod /new/null c 1 3; chmod 1777 /new
		rm /srv/added/by-layer-3; echo more >> /etc/motd; rm -r /srv/menu; mkdir /srv/menu; echo fresh > /srv/menu/bread
		rm /etc/os-release; mkdir /etc/os-release; mv /srv/added /srv/moved; rm -r /home; echo file > /home`)
	id := strings.TrimSpace(mustGocker(t, d, "ps", "-a", "--format", "{{.ID}}"))
	upper := filepath.Join(d.Container(id), "fs", "upperdir")
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service, permitted
	for name, value := range map[string]string{"user.note": "text", "security.capability": capability} {
		if err := unix.Lsetxattr(filepath.Join(upper, "srv/menu/bread"), name, []byte(value), 0); err != nil {
			t.Fatalf("set %s: %v", name, err)
		}
	}
	name := address + "/committed:v1"
	output := mustGocker(t, d, "commit", "-m", "a test", "-a", "me", "-c", "CMD [\"cat\", \"/new/one\"]", "cc", name)

	base := open(t, d, "sample")
	want := mergedFacts(t, append(base.Stack(d), upper))
	maps.DeleteFunc(want, func(f tree.Fact, _ string) bool { // empty files to mount something on: no change of its
		return slices.Contains([]string{"etc/hosts", "etc/hostname", "etc/resolv.conf"}, f.Name)
	})
	committed := open(t, d, name)
	if output != "sha256:"+committed.Digest+"\n" {
		t.Errorf("commit wrote %q, want the image's id", output)
	}
	same := func(who string, got tree.Facts) {
		t.Helper()
		for fact, value := range want {
			if got[fact] != value {
				t.Errorf("%s: %s of %q is %q, want %q", who, fact.What, fact.Name, got[fact], value)
			}
		}
		for fact, value := range got {
			if _, ok := want[fact]; !ok {
				t.Errorf("%s: %s of %q is %q, and nobody asked for that", who, fact.What, fact.Name, value)
			}
		}
	}
	same("the image", mergedFacts(t, committed.Stack(d)))
	mustGocker(t, d, "system", "check")
	if got := mustGocker(t, d, "run", "--rm", name); got != "one\n" {
		t.Errorf("run of the image wrote %q", got)
	}
	testenv.InOrder(t, mustGocker(t, d, "history", "--no-trunc", name), "set -e", "a test")

	mustGocker(t, d, "push", name)
	other := emptyDirs(t)
	mustGocker(t, other, "pull", name)
	pulled := open(t, other, name)
	same("pulled", mergedFacts(t, pulled.Stack(other)))

	t.Run("skopeo, umoci and podman", func(t *testing.T) {
		testenv.Needs(t, "skopeo", "umoci", "podman")
		dir := t.TempDir()
		tool(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+name, "oci:"+dir+"/layout:v1")
		tool(t, "umoci", "raw", "unpack", "--image", dir+"/layout:v1", dir+"/umoci")
		facts, err := tree.ReadFacts(dir + "/umoci")
		if err != nil {
			t.Fatal(err)
		}
		same("umoci", facts)
		podman := newPodman(t)
		podman("pull", "-q", "--tls-verify=false", name)
		if got := strings.TrimPrefix(strings.TrimSpace(podman("images", "-q", "--no-trunc", name)), "sha256:"); got != committed.Digest {
			t.Errorf("podman has the image %q, want %q", got, committed.Digest)
		}
	})
	mustGocker(t, d, "rm", "cc")
}

func open(t testing.TB, d dirs.Dirs, name string) layers.Image {
	t.Helper()
	ref, err := pull.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	id, err := local.Lookup(d, ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := layers.Open(d, id)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// mergedFacts is all that can be known of the files of a stack, as overlayfs shows them.
func mergedFacts(t testing.TB, stack merged.Stack) tree.Facts {
	t.Helper()
	mnt := t.TempDir()
	topmostFirst := slices.Clone(stack)
	slices.Reverse(topmostFirst)
	if err := unix.Mount("overlay", mnt, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(topmostFirst, ":")); err != nil {
		t.Fatalf("mount overlay of %q: %v", topmostFirst, err)
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	facts, err := tree.ReadFacts(mnt)
	if err != nil {
		t.Fatal(err)
	}
	return facts
}
