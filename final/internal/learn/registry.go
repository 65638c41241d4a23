//go:build linux

package learn

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// registryAddress is where a registry listens in a cage.
const registryAddress = "127.0.0.1:5000"

// served are the images of a registry, by name and tag.
type served map[string]remote.Taggable

// A spoiler changes what a registry sends of a layer. A shorter body than it says is a connection that breaks off.
type spoiler func(body []byte) []byte

func wrongByte(body []byte) []byte {
	body[len(body)/2] ^= 1
	return body
}

func cutShort(body []byte) []byte { return body[:len(body)/2] }

// serve starts a registry in the network of the cage.
func (t *trial) serve(images served, spoil spoiler) (stop func(), err error) {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if err := fill(handler, images); err != nil {
		return nil, fmt.Errorf("fill a registry: %w", err)
	}
	var listener net.Listener
	err = t.InNetwork(func() (err error) {
		listener, err = net.Listen("tcp", registryAddress)
		return err
	})
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: spoiled(handler, spoil)}
	go server.Serve(listener)
	return func() { server.Close() }, nil
}

// fill pushes images, by a door of the machine's own network.
func fill(handler http.Handler, images served) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	defer server.Close()
	for reference, image := range images {
		ref, err := name.ParseReference(listener.Addr().String() + "/" + reference)
		if err != nil {
			return err
		}
		switch image := image.(type) {
		case v1.Image:
			err = remote.Write(ref, image)
		case v1.ImageIndex:
			err = remote.WriteIndex(ref, image)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// spoiled is a registry that spoils the large layer of an image.
func spoiled(handler http.Handler, spoil spoiler) http.Handler {
	if spoil == nil {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			handler.ServeHTTP(w, r)
			return
		}
		answer := &answer{header: http.Header{}}
		handler.ServeHTTP(answer, r)
		whole := answer.body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
		w.Header().Set("Content-Type", answer.header.Get("Content-Type"))
		if bytes.HasPrefix(whole, []byte("\x1f\x8b")) { // a layer, not the config
			whole = spoil(bytes.Clone(whole))
		}
		w.Write(whole)
	})
}

// An answer is kept.
type answer struct {
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *answer) WriteHeader(int)             {}

// forPlatforms is an index in which an image is the one for this machine, and not the first.
func forPlatforms(mine v1.Image) v1.ImageIndex {
	other, _ := images()
	add := func(index v1.ImageIndex, img v1.Image, architecture string) v1.ImageIndex {
		if config, err := img.ConfigFile(); err == nil && architecture != runtime.GOARCH {
			config = config.DeepCopy()
			config.Architecture = architecture
			img, _ = mutate.ConfigFile(img, config) // what is wrong here is wrong when it is sent
		}
		return mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}}})
	}
	return add(add(add(empty.Index, other, "s390x"), mine, runtime.GOARCH), other, "mips64le")
}
