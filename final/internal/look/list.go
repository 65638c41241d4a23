//go:build linux

package look

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/filter"
	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/local"
)

// networkOf is what docker calls a container's network mode: with several networks the first.
func networkOf(s containers.State) string {
	if wants := s.Options.Network.Wants; len(wants) > 0 {
		return wants[0].Name
	}
	return cmp.Or(s.Options.Isolation.Network, "none")
}

// A Listed container is a line of "gocker ps".
type Listed struct {
	containers.State
	Networks []string // by name
	Ports    []Port

	// Details, which are read only if they are wanted.
	Labels map[string]string // the image's and its own
	Mounts []docker.MountPoint
}

// ListOptions are the flags of "gocker ps".
type ListOptions struct {
	All     bool     // also those that do not run
	Last    int      // only that many, the newest ones, whether they run or not
	Filters []string // KEY=VALUE: see listFilters
	Details bool
}

// List lists containers, the newest first. An error names the containers that cannot be read. All others are in the list.
func (look Look) List(opts ListOptions) (listed []Listed, err error) {
	passes, all, err := look.listFilter(opts.Filters)
	if err != nil {
		return nil, err
	}
	states, err := look.Containers.List()
	endpoints, endpointsErr := look.Networks.All()
	err = errors.Join(err, endpointsErr)
	opts.Details = opts.Details || slices.ContainsFunc(opts.Filters, func(f string) bool {
		return strings.HasPrefix(f, "label=") || strings.HasPrefix(f, "volume=")
	})
	for _, s := range states {
		if opts.Last > 0 && len(listed) == opts.Last {
			break
		}
		alive := s.Condition() != "created" && s.Condition() != "exited"
		if !alive && !opts.All && opts.Last == 0 && !all {
			continue
		}
		l := Listed{State: s, Networks: networksOf(s, endpoints[s.ID]), Ports: portsOf(s, endpoints[s.ID])}
		if opts.Details {
			spec, specErr := look.Containers.ReadSpec(s.ID)
			if specErr == nil {
				l.Labels = s.Annotations
				l.Mounts, specErr = describe.MountPoints(look.Volumes, spec, s.Bundle)
			}
			if _, gone := look.Containers.Read(s.ID); specErr != nil && errors.Is(gone, os.ErrNotExist) {
				continue // removed a moment ago
			}
			err = errors.Join(err, specErr)
		}
		if passes(l) {
			listed = append(listed, l)
		}
	}
	return listed, err
}

const listFilters = "filters are id=, name=, label=, status=, exited=, health=, ancestor=, before=, since=, volume=, network=, publish=, expose=, is-task="

// listFilter reads docker's filters. Those of one kind are alternatives, but for labels: a container has to have all.
// all says that containers are wanted whether they run or not.
func (look Look) listFilter(filters []string) (passes func(Listed) bool, all bool, err error) {
	kinds := filter.Tests[Listed]{}
	for i, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		kind := key
		var pass func(Listed) bool
		switch key {
		case "id":
			pass = func(l Listed) bool { return strings.HasPrefix(l.Whole(), value) }
		case "name":
			name, reErr := regexp.Compile(value)
			pass, err = func(l Listed) bool { return name.MatchString(l.Name) || name.MatchString("/"+l.Name) }, reErr
		case "label":
			kind = fmt.Sprint("label ", i)
			pass = func(l Listed) bool { return filter.HasLabel(l.Labels, value) }
		case "status":
			if all = true; !slices.Contains(containers.Conditions, value) {
				err = fmt.Errorf("a container is %s", strings.Join(containers.Conditions, ", "))
			}
			pass = func(l Listed) bool { return l.Condition() == value }
		case "exited":
			code, numberErr := strconv.Atoi(value)
			pass, err = func(l Listed) bool { return l.Condition() == "exited" && l.ExitCode == code }, numberErr
		case "health":
			health := docker.HealthStatus(value)
			pass, err = func(l Listed) bool { return l.HealthStatus() == health }, docker.ValidateHealthStatus(health)
		case "ancestor":
			pass, err = look.descendsFrom(value)
		case "before", "since":
			other, findErr := look.Containers.Find(value)
			order := map[string]int{"before": -1, "since": 1}[key]
			pass, err = func(l Listed) bool { return l.Created.Compare(other.Created) == order }, findErr
		case "volume":
			pass = func(l Listed) bool {
				return slices.ContainsFunc(l.Mounts, func(m docker.MountPoint) bool { return value == m.Name || value == m.Destination || value == m.Source })
			}
		case "network":
			name := value
			if n, findErr := look.Networks.FindAny(value); findErr == nil {
				name = n.Name
			}
			pass = func(l Listed) bool { return slices.Contains(l.Networks, name) }
		case "is-task": // of docker's swarm: none is
			task, boolErr := strconv.ParseBool(value)
			pass, err = func(Listed) bool { return !task }, boolErr
		case "publish", "expose":
			pass, err = hasPort(key, value)
		default:
			ok = false
		}
		if !ok {
			return nil, false, advice.Add(fmt.Errorf("filter %q: %w", f, describe.ErrOption), listFilters)
		}
		if err != nil {
			return nil, false, fmt.Errorf("filter %q: %w", f, err)
		}
		kinds[kind] = append(kinds[kind], pass)
	}
	return kinds.Pass, all, nil
}

// descendsFrom tells whether a container's image is this one, or was made on top of it. An image that is not here has no
// descendants.
func (look Look) descendsFrom(image string) (func(Listed) bool, error) {
	ref, err := pull.ParseReference(image)
	if err != nil {
		return nil, err
	}
	ancestor, err := look.Images.Open(ref)
	if errors.Is(err, local.ErrNoImage) {
		return func(Listed) bool { return false }, nil
	}
	if err != nil {
		return nil, err
	}
	n := len(ancestor.Layers)
	return func(l Listed) bool {
		if l.ImageID == ancestor.Digest {
			return true
		}
		img, err := look.Containers.ImageOf(l.ID)
		return err == nil && n > 0 && len(img.Layers) > n && img.Layers[n-1].ChainID == ancestor.Layers[n-1].ChainID
	}, nil
}

// A Size is what a container's files take.
type Size struct {
	Changed int64 // bytes of what it added and changed
	Root    int64 // with those of its image
}

// Size counts the bytes of a container's files.
func (look Look) Size(s containers.State) (size Size, err error) {
	image, err := store.Summarize(look.Containers.Dirs, dirs.Short(s.ImageID))
	if err != nil {
		return size, err
	}
	size.Changed = look.Containers.ChangedBytes(s.ID)
	size.Root = size.Changed + image.Size
	return size, nil
}
