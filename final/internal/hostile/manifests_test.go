//go:build linux

package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// honest is an image of two layers.
func honest(h *house) *image {
	return newImage(of(h.t, file("a", "1")), of(h.t, file("b", "2"))).seal(h.t)
}

// lying is the honest image after tell has bent it. tell may seal it anew.
func lying(tell func(h *house, i *image)) func(h *house) *image {
	return func(h *house) *image {
		i := honest(h)
		tell(h, i)
		return i
	}
}

// configured is the honest image with another config.
func configured(change func(c *v1.ConfigFile)) func(h *house) *image {
	return lying(func(h *house, i *image) {
		change(&i.config)
		i.seal(h.t)
	})
}

// resent is the honest image with another manifest.
func resent(change func(m *v1.Manifest)) func(h *house) *image {
	return lying(func(_ *house, i *image) { change(&i.manifest) })
}

// text is the honest image whose manifest, once it is text, is changed.
func text(change func(manifest string) string) func(h *house) *image {
	return lying(func(h *house, i *image) {
		raw, err := json.Marshal(i.manifest)
		if err != nil {
			h.t.Fatal(err)
		}
		i.raw = []byte(change(string(raw)))
	})
}

// answering is a registry that answers all requests for a manifest so.
func answering(answer http.HandlerFunc) func(h *house) *image {
	return lying(func(_ *house, i *image) { i.answer = answer })
}

func manifests() []attack {
	return []attack{
		// Sizes and numbers.
		{name: "manifest of 1 GB", image: answering(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			io.Copy(w, io.LimitReader(spaces{}, 1<<30))
		}), refused: "manifest"},
		{name: "config of 1 GB", image: lying(func(_ *house, i *image) {
			i.manifest.Config.Digest, i.manifest.Config.Size = hash(digest([]byte("any"))), 1<<30
			i.blobs[digest([]byte("any"))] = sent{func() io.Reader { return spaces{} }, 1 << 30}
		}), refused: "config"},
		{name: "config of 1 GB that claims a kilobyte", image: lying(func(_ *house, i *image) {
			name := i.manifest.Config.Digest.String()
			i.manifest.Config.Size = 1024
			i.blobs[name] = sent{func() io.Reader { return spaces{} }, 1 << 30}
		}), refused: "config"},
		{name: "layer that goes on after its size", image: lying(func(_ *house, i *image) {
			name := i.manifest.Layers[0].Digest.String()
			body := i.blobs[name].body
			i.blobs[name] = sent{func() io.Reader { return io.MultiReader(body(), zeros{}) }, 1 << 30}
		}), refused: "size"},
		{name: "layer size too large", image: resent(func(m *v1.Manifest) { m.Layers[0].Size++ }), refused: "size"},
		{name: "layer size too small", image: resent(func(m *v1.Manifest) { m.Layers[0].Size-- }), refused: "size"},
		{name: "layer size negative", image: resent(func(m *v1.Manifest) { m.Layers[0].Size = -1 }), refused: "-1 bytes"},
		{name: "config size too large", image: resent(func(m *v1.Manifest) { m.Config.Size++ }), refused: "size"},
		{name: "config size too small", image: resent(func(m *v1.Manifest) { m.Config.Size-- }), refused: "larger than"},
		{name: "10,000 layers", image: func(h *house) *image {
			l, i := of(h.t, file("a", "1")), newImage()
			for range 10_000 {
				i.add(l)
			}
			return i.seal(h.t)
		}, refused: "layers"},
		{name: "no layers", image: func(h *house) *image { return newImage().seal(h.t) }},
		{name: "config that is 100,000 brackets deep", image: lying(func(_ *house, i *image) {
			i.sealWith(bytes.Repeat([]byte("["), 100_000))
		}), refused: "config"},
		{name: "manifest that is 100,000 brackets deep", image: lying(func(_ *house, i *image) {
			i.raw = bytes.Repeat([]byte("["), 100_000)
		}), refused: "manifest"},

		// What does not fit.
		{name: "a diffID too many", image: configured(func(c *v1.ConfigFile) { c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, c.RootFS.DiffIDs[0]) }), refused: "layers"},
		{name: "a diffID too few", image: configured(func(c *v1.ConfigFile) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] }), refused: "layers"},
		{name: "no rootfs", image: configured(func(c *v1.ConfigFile) { c.RootFS = v1.RootFS{} }), refused: "layers"},
		{name: "diffIDs swapped", image: configured(func(c *v1.ConfigFile) {
			c.RootFS.DiffIDs[0], c.RootFS.DiffIDs[1] = c.RootFS.DiffIDs[1], c.RootFS.DiffIDs[0]
		}), refused: "diffID"},
		{name: "diffID of something else", image: configured(func(c *v1.ConfigFile) { c.RootFS.DiffIDs[1] = hash(digest([]byte("x"))) }), refused: "diffID"},
		{name: "diffID that leads out", image: lying(func(h *house, i *image) {
			raw, err := json.Marshal(i.config)
			if err != nil {
				h.t.Fatal(err)
			}
			i.sealWith(bytes.Replace(raw, []byte(i.config.RootFS.DiffIDs[0].Hex), []byte("../../../../outside"), 1))
		}), refused: "config"},
		{name: "rootfs of another type", image: configured(func(c *v1.ConfigFile) { c.RootFS.Type = "layers+base" }), refused: `root file system of type "layers+base"`},
		{name: "another machine's image", image: configured(func(c *v1.ConfigFile) { c.Architecture = "z80" }), refused: "z80"},
		{name: "another system's image", image: configured(func(c *v1.ConfigFile) { c.OS = "windows" }), refused: "it is for windows"},
		{name: "config that is no image's", image: resent(func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }), refused: "helm"},
		{name: "layer of a type nobody knows", image: resent(func(m *v1.Manifest) { m.Layers[0].MediaType = "application/vnd.example.blob" }), refused: "example"},
		{name: "encrypted layer", image: resent(func(m *v1.Manifest) { m.Layers[0].MediaType += "+encrypted" }), refused: "encrypted"},
		{name: "gzip layer that is called plain", image: resent(func(m *v1.Manifest) { m.Layers[0].MediaType = types.OCIUncompressedLayer }), layers: "a=1 b=2"},
		{name: "another blob under the layer's digest", image: lying(func(h *house, i *image) {
			other := of(h.t, file("a", "2")).blob
			name := i.manifest.Layers[0].Digest.String()
			i.blobs[name] = sent{func() io.Reader { return bytes.NewReader(other) }, int64(len(other))}
			i.manifest.Layers[0].Size = int64(len(other))
		}), refused: "sha256"},
		{name: "another config under the config's digest", image: lying(func(h *house, i *image) {
			name := i.manifest.Config.Digest.String()
			i.config.Author = "somebody else"
			i.seal(h.t)
			i.blobs[name] = i.blobs[i.manifest.Config.Digest.String()]
			i.manifest.Config.Digest = hash(name)
		}), refused: "sha256"},
		{name: "digest that leads out", image: lying(func(_ *house, i *image) {
			raw, _ := json.Marshal(i.manifest)
			i.raw = bytes.Replace(raw, []byte(i.manifest.Layers[0].Digest.String()), []byte("sha256:../../../../../outside/secret"), 1)
		}), refused: "non-hex"},
		{name: "digest of another kind", image: lying(func(_ *house, i *image) {
			raw, _ := json.Marshal(i.manifest)
			i.raw = bytes.Replace(raw, []byte(i.manifest.Layers[0].Digest.String()), []byte("md5:d41d8cd98f00b204e9800998ecf8427e"), 1)
		}), refused: "md5"},

		// What is no manifest, or two.
		{name: "manifest that is no JSON", image: text(func(string) string { return "manifest" }), refused: "manifest"},
		{name: "manifest that is null", image: text(func(string) string { return "null" }), refused: "manifest"},
		{name: "manifest of version 1", image: lying(func(_ *house, i *image) {
			i.mediaType = string(types.DockerManifestSchema1Signed)
			i.raw = []byte(`{"schemaVersion": 1, "name": "image", "tag": "latest", "fsLayers": [], "history": []}`)
		}), refused: "schema"},
		{name: "manifest that is an index too", image: text(func(m string) string { return strings.Replace(m, "{", `{"manifests": [],`, 1) }), refused: "manifest"},
		{name: "index that claims to be a manifest", image: lying(func(_ *house, i *image) {
			i.mediaType = string(types.OCIManifestSchema1)
			i.raw = []byte(`{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}`)
		}), refused: "manifest"},
		{name: "manifest that claims to be an index", image: lying(func(_ *house, i *image) { i.mediaType = string(types.OCIImageIndex) }), refused: "manifest"},
		{name: "index that names itself", image: lying(func(_ *house, i *image) {
			i.mediaType = string(types.OCIImageIndex)
			i.raw = []byte(fmt.Sprintf(`{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
			"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "%s", "size": 500,
			"platform": {"os": "linux", "architecture": "%s"}}]}`, digest([]byte("itself")), i.config.Architecture))
		}), refused: "has the digest"},
		{name: "web page", image: answering(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>log in to the hotel's network</html>")
		}), refused: "not the manifest"},
		{name: "redirects without an end", image: answering(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"?"+r.URL.RawQuery+"x", http.StatusTemporaryRedirect)
		}), refused: "redirects without end"},
		{name: "escape sequences in an error of the registry", image: answering(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"errors": [{"code": "DENIED", "message": "\u001b[2J\u001b]0;title\u0007"}]}`)
		}), refused: "credentials"},
		{name: "escape sequences in a media type", image: resent(func(m *v1.Manifest) { m.Config.MediaType = "\x1b[2J" }), refused: `\x1b[2J`},
		{name: "layer that is somewhere else", image: elsewhere, layers: "a=1 b=2"},
		{name: "layer that is a file of this machine", image: lying(func(h *house, i *image) {
			i.manifest.Layers[0].URLs = []string{"file://" + h.outside + "/secret"}
			delete(i.blobs, i.manifest.Layers[0].Digest.String())
		}), refused: "leads elsewhere"},
	}
}

// elsewhere has a layer at another server, which wants to know the credentials for the registry.
func elsewhere(h *house) *image {
	i := honest(h)
	desc := &i.manifest.Layers[0]
	blob := i.blobs[desc.Digest.String()]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "" {
			h.t.Errorf("the other server was told %q", got)
		}
		w.Header().Set("WWW-Authenticate", "Basic realm=any")
		io.Copy(w, blob.body())
	}))
	h.t.Cleanup(server.Close)
	desc.MediaType, desc.URLs = types.DockerForeignLayer, []string{server.URL + "/layer"}
	delete(i.blobs, desc.Digest.String())
	i.password = "secret"
	return i
}
