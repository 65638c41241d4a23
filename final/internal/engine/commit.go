//go:build linux

package engine

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/shlex"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
)

// ErrChange says that a change of an image's config is none.
var ErrChange = errors.New("not a change of a config")

// CommitOptions are the flags of "gocker commit".
type CommitOptions struct {
	Message, Author string
	Changes         []string // lines of a Dockerfile: see changeConfig
	Pause           bool     // a container that runs stands still while its files are read
}

// Commit makes an image of a container: the layers of the container's image, one more of what the container changed, and
// the config with changes. names may be empty.
func (e Engine) Commit(ctx context.Context, container string, opts CommitOptions, names ...pull.Reference) (img layers.Image, err error) {
	fail := func(err error) (layers.Image, error) {
		return layers.Image{}, fmt.Errorf("commit container %q: %w", container, err)
	}
	s, err := e.Containers().Find(container)
	if err != nil {
		return layers.Image{}, err
	}
	f, err := overlay.Open(e.Dirs, s.ID)
	if err == nil {
		defer f.Close() // it cannot be removed meanwhile
	} else if !errors.Is(err, dirs.ErrLocked) { // that one runs
		return fail(err)
	}
	base, err := e.Containers().ImageOf(s.ID)
	if err != nil {
		return fail(err)
	}
	config := base.Config.DeepCopy()
	for _, change := range opts.Changes {
		if err := changeConfig(&config.Config, change); err != nil {
			return fail(err)
		}
	}
	partial, err := dirs.NewPartial(e.Dirs.AllTmp())
	if err != nil {
		return fail(err)
	}
	defer partial.Discard()
	const name = "layer.tar.gz"
	goOn, err := e.standStill(s, opts.Pause)
	if err != nil {
		return fail(err)
	}
	digest, diffID, err := e.packLayer(ctx, filepath.Join(partial.Path, name), s)
	if overlay.Moved(err) {
		err = advice.Add(err, "the container changed it meanwhile; without --pause=false it stands still")
	}
	if err = cmp.Or(err, goOn()); err != nil {
		return fail(err)
	}
	config.Created = v1.Time{Time: time.Now().UTC()}
	config.Author, config.Container = opts.Author, s.ID
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
	config.History = append(config.History, v1.History{
		Created: config.Created, CreatedBy: strings.Join(s.Command, " "), Author: opts.Author, Comment: opts.Message,
	})
	raw, err := json.Marshal(config)
	if err != nil {
		return fail(err)
	}
	hash, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return fail(err)
	}
	in := layers.Source{Manifest: tarball.Descriptor{Config: hash.Hex + ".json"}, Config: raw, Limits: untar.NoLimits}
	for _, layer := range base.Layers {
		in.Manifest.Layers = append(in.Manifest.Layers, strings.TrimPrefix(layer.Digest, "sha256:")+".tar.gz")
		in.Blobs = append(in.Blobs, layers.Blob{Digest: layer.Digest, Open: func(context.Context) (layers.Stream, error) {
			return store.OpenBlob(e.Dirs, layer.Digest)
		}})
	}
	in.Manifest.Layers = append(in.Manifest.Layers, digest.Hex+".tar.gz")
	blob := layers.Packaged(partial.Path, name)
	blob.Digest = digest.String()
	in.Blobs = append(in.Blobs, blob)
	if img, err = store.Add(ctx, e.Dirs, in, nil, names...); err != nil {
		return fail(err)
	}
	id, ref := "sha256:"+img.Digest, ""
	if len(names) > 0 {
		ref = names[0].String()
	}
	e.Containers().Note("commit", s, "comment", opts.Message, "imageID", id, "imageRef", ref)
	for _, name := range names {
		e.Images().Note("tag", img, id, name.String())
	}
	return img, nil
}

// standStill pauses a container, if it runs and is to, until goOn is called.
func (e Engine) standStill(s containers.State, pause bool) (goOn func() error, err error) {
	ended := func(err error) bool {
		return errors.Is(err, containers.ErrNotRunning) || errors.Is(err, containers.ErrNoContainer)
	}
	if pause {
		err = e.Pause(s.ID)
	}
	switch {
	case !pause || ended(err) || errors.Is(err, containers.ErrPaused):
		return func() error { return nil }, nil
	case err != nil:
		return nil, advice.Add(err, "to read the files while they change: gocker commit --pause=false")
	}
	return func() error {
		if err := e.Unpause(s.ID); err != nil && !ended(err) && !errors.Is(err, ErrNotPaused) {
			return err
		}
		return nil
	}, nil
}

// packLayer writes what a container changed as a compressed layer.
func (e Engine) packLayer(ctx context.Context, name string, s containers.State) (digest, diffID v1.Hash, err error) {
	view, err := e.Containers().View(s.ID)
	if err != nil {
		return digest, diffID, err
	}
	spec, err := e.Containers().ReadSpec(s.ID)
	if err != nil {
		return digest, diffID, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return digest, diffID, err
	}
	defer f.Close()
	sent, plain := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(f, sent))
	if err := view.LookAside(func() error {
		_, targets, err := containers.SplitChanges(view, spec.Mounts)
		if err != nil {
			return err
		}
		return store.Pack(untilDoneWriter{ctx, io.MultiWriter(z, plain)}, view.Upperdir(), targets...)
	}); err != nil {
		return digest, diffID, err
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		return digest, diffID, err
	}
	digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sent.Sum(nil))}
	return digest, v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))}, nil
}

// untilDoneWriter is a writer that ends with its context.
type untilDoneWriter struct {
	ctx context.Context
	io.Writer
}

func (u untilDoneWriter) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Writer.Write(p)
}

// changeConfig is what a line of a Dockerfile does to a config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER,
// VOLUME or WORKDIR. See https://docs.docker.com/reference/dockerfile/.
func changeConfig(config *v1.Config, line string) error {
	fail := func(why string) error {
		return advice.Add(fmt.Errorf("%w: %q: %s", ErrChange, line, why),
			"a change is a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR")
	}
	keyword, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if rest = strings.TrimSpace(rest); rest == "" {
		return fail("nothing stands behind the first word")
	}
	words, err := shlex.Split(rest)
	if err != nil {
		return fail(err.Error())
	}
	switch strings.ToUpper(keyword) {
	case "CMD":
		config.Cmd = command(rest)
	case "ENTRYPOINT":
		config.Entrypoint = command(rest)
	case "ENV":
		pairs, err := parsePairs(words, rest)
		if err != nil {
			return fail(err.Error())
		}
		for _, pair := range pairs {
			config.Env = append(config.Env, pair[0]+"="+pair[1])
		}
		config.Env = describe.LastOfEach(config.Env)
	case "LABEL":
		pairs, err := parsePairs(words, rest)
		if err != nil {
			return fail(err.Error())
		}
		config.Labels = maps.Clone(config.Labels)
		for _, pair := range pairs {
			config.Labels = put(config.Labels, pair[0], pair[1])
		}
	case "EXPOSE":
		for _, port := range words {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			config.ExposedPorts = put(config.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		if json.Unmarshal([]byte(rest), &words) != nil {
			words, _ = shlex.Split(rest)
		}
		for _, folder := range words {
			config.Volumes = put(config.Volumes, folder, struct{}{})
		}
	case "STOPSIGNAL":
		config.StopSignal = rest
	case "USER":
		config.User = rest
	case "WORKDIR":
		if !path.IsAbs(rest) {
			rest = path.Join("/", config.WorkingDir, rest)
		}
		config.WorkingDir = path.Clean(rest)
	default:
		return fail("there is no " + keyword)
	}
	return nil
}

func put[K comparable, T any](m map[K]T, key K, value T) map[K]T {
	if m == nil {
		m = map[K]T{}
	}
	m[key] = value
	return m
}

// command is a list of words in JSON, or a line for the shell.
func command(text string) (words []string) {
	if json.Unmarshal([]byte(text), &words) == nil {
		return words
	}
	return []string{"/bin/sh", "-c", text}
}

// parsePairs reads KEY=value KEY=value, or of old KEY value.
func parsePairs(words []string, text string) (pairs [][2]string, err error) {
	if !strings.Contains(words[0], "=") {
		key, value, ok := strings.Cut(text, " ")
		if !ok {
			return nil, fmt.Errorf("%q has no value", key)
		}
		return [][2]string{{key, strings.TrimSpace(value)}}, nil
	}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE", word)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}
