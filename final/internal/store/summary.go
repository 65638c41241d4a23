//go:build linux

package store

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
)

// A Summary is what a list of images shows of one: images/{image}/summary.json. All of it is in the config and in the
// layers' layer.json, too, but lists of a thousand images are asked for.
type Summary struct {
	Digest  string // of the config, 64 hex digits
	Created time.Time
	Size    int64             // bytes of all its files
	Labels  map[string]string `json:",omitempty"`
}

func summary(img layers.Image) Summary {
	s := Summary{Digest: img.Digest, Created: img.Config.Created.Time, Labels: img.Config.Config.Labels}
	for _, layer := range img.Layers {
		s.Size += layer.Files
	}
	return s
}

// Summarize reads an image's summary, or makes it where there is none.
func Summarize(d dirs.Dirs, image string) (s Summary, err error) {
	raw, err := os.ReadFile(filepath.Join(d.Image(image), "summary.json"))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil {
		return s, nil
	}
	img, err := layers.Open(d, image)
	if err != nil {
		return s, err
	}
	return summary(img), nil
}
