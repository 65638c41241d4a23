//go:build linux

package main

// Take away the _ of a package when you use it.
import (
	_ "github.com/google/go-containerregistry/pkg/crane" // asks registries
	_ "github.com/google/go-containerregistry/pkg/name"  // reads references
	_ "github.com/google/go-containerregistry/pkg/v1"    // says what an image is
)

// pull writes an image as one archive, as docker save would. See docs/step01-pull.md.
func pull(reference, file string) error {
	// TODO 1: read the reference: HOST/NAME, HOST/NAME:TAG or HOST/NAME@DIGEST. Without a tag it is latest.
	// TODO 2: ask the registry for the image, the one for this machine's platform. What you receive has the digest that you asked for.
	// TODO 3: write a tar archive: the config, byte for byte, the layers, and manifest.json, which names them, the lowest first.
	// TODO 4: after an error, file is as it was before, and no other file is left.
	return missing(1)
}
