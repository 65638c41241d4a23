//go:build linux

package main

// Take away the _ of a package when you use it.
import (
	_ "github.com/google/go-containerregistry/pkg/v1"         // reads a config
	_ "github.com/google/go-containerregistry/pkg/v1/tarball" // says what is in manifest.json
	_ "golang.org/x/sys/unix"                                 // has the system calls
)

// layers turns an unpacked archive into root/images/{image}. See docs/step03-layers.md.
func layers(dir, root string) error {
	// TODO 1: read manifest.json, and the config that it names. {image} is the first 12 digits of the config's SHA-256.
	// TODO 2: unpack each layer into {image}/{layer}/fs, as in step 2. But links may lead anywhere, and nothing follows them.
	// TODO 3: a whiteout, and an opaque folder, become those of overlayfs.
	// TODO 4: a folder that a layer leaves out, and a hard link to a file that is not in it, come from the layers below.
	// TODO 5: compare each layer with its diffID in the config.
	// TODO 6: keep manifest.json and the config, and add the name to root/images/images.json. After an error nothing is there.
	return missing(3)
}
