//go:build linux

package describe

import (
	"path/filepath"
	"slices"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/runtime"
	"gocker/final/internal/volumes"
)

// MountPoints are the volumes, images and folders of the host that a container has, in docker's words; bundle is its own folder.
func MountPoints(store volumes.Store, spec *specs.Spec, bundle string) ([]docker.MountPoint, error) {
	points := []docker.MountPoint{}
	for _, m := range spec.Mounts {
		if m.Type == runtime.ImageType {
			name, _ := runtime.ImageOptions(m)
			points = append(points, docker.MountPoint{Type: mount.TypeImage, Name: name, Source: m.Source, Destination: m.Destination, Propagation: "rprivate"})
		}
		if m.Type != "bind" || filepath.Dir(m.Source) == bundle || isHosts(m) { // hosts, hostname, resolv.conf
			continue
		}
		p := docker.MountPoint{Type: "bind", Source: m.Source, Destination: m.Destination, RW: !slices.Contains(m.Options, "ro"), Propagation: "rprivate"}
		for _, option := range m.Options {
			switch option {
			case "ro":
				p.Mode = option
			case "shared", "rshared", "slave", "rslave", "private":
				p.Propagation = mount.Propagation(option)
			}
		}
		name, isVolume, err := store.NameOf(m.Source)
		if err != nil {
			return nil, err
		}
		if isVolume {
			p.Type, p.Driver, p.Name, p.Propagation = "volume", "local", name, ""
		}
		points = append(points, p)
	}
	return points, nil
}
