// Package sample makes an image out of this machine's own files, so that every lesson works without a network.
//
//	layer 1, base     folders, /etc, and a shell with the shared libraries that it needs
//	layer 2, tools    ls, ps, mount, … with the libraries that layer 1 does not have
//	layer 3, update   changes /etc/motd, adds /srv/added
//	layer 4, delete   deletes /srv/draft (a whiteout), replaces the folder /srv/menu (an opaque whiteout)
//
// All times are fixed and all entries sorted: the same machine makes the same digests.
// See https://github.com/opencontainers/image-spec/blob/main/layer.md for what the layers mean.
package sample

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/step01-pull/shared/advice"
)

// tools are what the image has beside sh, where this machine has them.
var tools = strings.Fields(`
	cat chgrp chmod chown cp cut date dd df du echo env expr false find free grep head hostname id ip kill ln ls
	lsns mkdir mknod mount mv nproc ps pwd readlink rm rmdir sed seq sleep sort stat stty tail test touch tr true
	tty umount uname unshare wc whoami yes`)

// epoch is the time of everything in the image: that of the image which the notes speak of.
var epoch = time.Date(2021, 11, 24, 20, 19, 40, 0, time.UTC)

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Image makes the image and names the tools that this machine lacks. It fails only where there is no sh.
func Image() (img v1.Image, missing []string, err error) {
	base, err := baseLayer()
	if err != nil {
		return nil, nil, err
	}
	tools, missing, err := toolsLayer(base)
	if err != nil {
		return nil, nil, err
	}
	img = mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, l := range []struct {
		comment string
		layer
	}{
		{"base: folders and a shell", base}, {"tools", tools},
		{"updates /etc/motd, adds /srv/added", updates()}, {"deletes /srv/draft, replaces /srv/menu", deletions()},
	} {
		blob, err := l.blob()
		if err != nil {
			return nil, nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: blob, History: v1.History{
			Created: v1.Time{Time: epoch}, CreatedBy: "gocker sample", Comment: l.comment,
		}})
		if err != nil {
			return nil, nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = runtime.GOOS, runtime.GOARCH, v1.Time{Time: epoch}
	config.Config = v1.Config{Env: []string{"PATH=" + searchPath}, Cmd: []string{"sh"}, WorkingDir: "/"}
	img, err = mutate.ConfigFile(img, config)
	return img, missing, err
}

// baseLayer has the folders that every system has, and a shell.
func baseLayer() (layer, error) {
	base := layer{}
	base.dir("/", 0o755)
	for _, name := range []string{"dev", "etc", "home", "mnt", "proc", "root", "run", "srv", "sys", "usr", "var"} {
		base.dir("/"+name, 0o755)
	}
	base.dir("/tmp", 0o1777)
	base.dir("/srv/menu", 0o755)
	base.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
	base.file("/etc/group", "root:x:0:\nguest:x:1000:\nnogroup:x:65534:\n")
	base.file("/etc/os-release", "ID=sample\nPRETTY_NAME=\"gocker sample image\"\n")
	base.file("/etc/motd", "layer 1 wrote this\n")
	base.file("/srv/draft", "layer 4 will delete this\n")
	base.file("/srv/menu/soup", "layer 4 will hide this\n")
	for _, name := range []string{"/bin", "/sbin", "/lib", "/lib64"} {
		// Most distributions have links here, to /usr/bin and its like.
		if _, err := os.Readlink(name); err == nil {
			if err := base.host(name, nil); err != nil {
				return nil, err
			}
		}
	}
	if err := base.program("/bin/sh", nil); err != nil {
		return nil, advice.Add(err, "the sample image is made of this machine's own programs, and it needs sh")
	}
	return base, nil
}

// toolsLayer has the tools, and names those that this machine lacks.
func toolsLayer(base layer) (l layer, missing []string, err error) {
	l = layer{}
	for _, tool := range tools {
		host, err := lookPath(tool)
		if err != nil {
			missing = append(missing, tool)
			continue
		}
		if err := l.program(host, base); err != nil {
			return nil, nil, err
		}
	}
	return l, missing, nil
}

func updates() layer {
	l := layer{}
	l.file("/etc/motd", "layer 3 updated this\n")
	l.dir("/srv/added", 0o755)
	l.file("/srv/added/by-layer-3", "layer 3 added this\n")
	return l
}

func deletions() layer {
	l := layer{}
	l.file("/srv/.wh.draft", "")
	l.file("/srv/menu/.wh..wh..opq", "")
	l.file("/srv/menu/salad", "layer 4 put this in place of all that was here\n")
	return l
}

// lookPath finds a tool where distributions keep them: the caller's own PATH may lack the sbin folders.
func lookPath(tool string) (string, error) {
	for _, dir := range strings.Split(searchPath, ":") {
		if p, err := exec.LookPath(path.Join(dir, tool)); err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

// A layer is its entries by name. Names are absolute here and relative in the tar.
type layer map[string]entry

type entry struct {
	header  tar.Header
	content string // what to write, or
	host    string // the file of this machine to copy
}

func (l layer) dir(name string, mode int64) {
	l[name] = entry{header: tar.Header{Typeflag: tar.TypeDir, Mode: mode}}
}

func (l layer) file(name, content string) {
	l[name] = entry{header: tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content: content}
}

// program adds a program of this machine with the libraries it is linked to, but for what below has already.
func (l layer) program(name string, below layer) error {
	files, err := libraries(name)
	if err != nil {
		return fmt.Errorf("shared libraries of %q: %w", name, err)
	}
	for _, file := range append(files, name) {
		if err := l.host(file, below); err != nil {
			return err
		}
	}
	return nil
}

// host adds a file of this machine with all that its name goes through: folders, and links, such as /bin -> usr/bin.
func (l layer) host(name string, below layer) error {
	dir := "/"
	parts := strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	for i, part := range parts {
		at := path.Join(dir, part)
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		_, here := l[at]
		_, there := below[at]
		known := here || there
		switch mode := info.Mode(); {
		case mode&os.ModeSymlink != 0:
			target, err := os.Readlink(at)
			if err != nil {
				return err
			}
			if !known {
				l[at] = entry{header: tar.Header{Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}}
			}
			if !path.IsAbs(target) {
				target = path.Join(dir, target)
			}
			return l.host(path.Join(append([]string{target}, parts[i+1:]...)...), below)
		case known:
		case mode.IsDir():
			l.dir(at, 0o755)
		default:
			header, err := tar.FileInfoHeader(info, "")
			if err != nil {
				return err
			}
			// Owner and times of this machine do not matter, its setuid bits do (mount has one).
			l[at] = entry{header: tar.Header{Typeflag: tar.TypeReg, Mode: header.Mode, Size: header.Size}, host: at}
		}
		dir = at
	}
	return nil
}

// blob writes the layer as a gzip-compressed tar.
func (l layer) blob() (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.SortedFunc(maps.Keys(l), func(a, b string) int {
		// "Implementations SHOULD generate layers such that the whiteout files appear before sibling directory entries."
		return cmp.Compare(strings.Replace(a, "/.wh.", "/\x00", 1), strings.Replace(b, "/.wh.", "/\x00", 1))
	}) {
		e := l[name]
		e.header.Name = cmp.Or(strings.TrimPrefix(name, "/"), ".")
		if e.header.Typeflag == tar.TypeDir {
			e.header.Name += "/"
		}
		e.header.ModTime = epoch
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, err
		}
		if err := e.copy(w); err != nil {
			return nil, fmt.Errorf("add %q to the sample image: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
}

func (e entry) copy(w io.Writer) error {
	if e.host == "" {
		_, err := io.WriteString(w, e.content)
		return err
	}
	f, err := os.Open(filepath.FromSlash(e.host))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
