//go:build linux

package describe

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/runtime"
	"gocker/final/internal/volumes"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
)

// Mounts are the flags of "run" that say what is mounted.
type Mounts struct {
	Volumes  []string // [HOST or volume:]CONTAINER[:options]
	Mounts   []string // type=bind|volume|tmpfs|image,source=…,target=…
	Tmpfs    []string // folders, with mount options behind a colon
	From     []string // containers whose volumes and folders of the host it has too, with :ro or :rw
	ShmSize  string   // of /dev/shm
	Readonly bool     // the root, not what is mounted below it
}

// Lent is what a container has mounted of others.
type Lent struct {
	Points [][]docker.MountPoint   // volumes and folders of the host, for each of Mounts.From
	Images map[string]layers.Image // by what Mounts.Images calls them
}

// A wish is one mount that the user or the image asks for.
type wish struct {
	specs.Mount
	volume *volumes.Volume // in place of a source
	nocopy bool            // the volume stays empty
	flag   string          // that asks for it
	value  string          // of the flag
	make   bool            // a missing source, as a folder
	within string          // a folder or file of an image
}

// addMounts adds what the user and the image want to be mounted. Volumes are made and filled, and stay until the caller
// closes their locks; anonymous are the names of those that are for this container only.
func addMounts(f *overlay.FS, spec *specs.Spec, ofImage map[string]struct{}, opts Mounts, lent Lent, store volumes.Store) (anonymous []string, locks []*os.File, err error) {
	spec.Root.Readonly = opts.Readonly
	if opts.ShmSize != "" {
		if err := setShmSize(spec, opts.ShmSize); err != nil {
			return nil, nil, err
		}
	}
	wishes, err := parseMounts(opts)
	if err != nil {
		return nil, nil, err
	}
	for i, from := range opts.From {
		others, err := wishesOf(from, lent.Points[i])
		if err != nil {
			return nil, nil, fmt.Errorf("--volumes-from %q: %w", from, err)
		}
		for _, w := range others {
			if !isWished(wishes, w.Destination) {
				wishes = append(wishes, w)
			}
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(ofImage)) {
		w := wish{Mount: specs.Mount{Destination: filepath.Join("/", folder)}, volume: &volumes.Volume{}}
		if w.Destination == "/" {
			return nil, nil, errors.New("the image wants a volume at /: that would hide all of it")
		}
		if !isWished(wishes, w.Destination) {
			wishes = append(wishes, w)
		}
	}
	// A mount below another one comes later, as docker has it.
	slices.SortStableFunc(wishes, func(a, b wish) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	for i, w := range wishes {
		lock, err := provide(f, &w, store)
		if w.Type == runtime.ImageType {
			err = provideImage(f, &w, lent.Images[w.Source], fmt.Sprintf("image.%d", i), store.Dirs)
		}
		if lock != nil {
			locks = append(locks, lock)
		}
		if w.volume != nil && w.volume.Anonymous {
			anonymous = append(anonymous, w.volume.Name)
		}
		if err != nil {
			return anonymous, locks, err
		}
		setMount(spec, w.Mount)
	}
	return anonymous, locks, nil
}

func isWished(wishes []wish, destination string) bool {
	return slices.ContainsFunc(wishes, func(w wish) bool { return w.Destination == destination })
}

// wishesOf are what a container has of volumes, and of the host. A mount that is read-only there is read-only here.
func wishesOf(from string, points []docker.MountPoint) (wishes []wish, err error) {
	_, mode, _ := strings.Cut(from, ":")
	if !slices.Contains([]string{"", "ro", "rw"}, mode) {
		return nil, advice.Add(fmt.Errorf("%w: %q", ErrOption, mode), "write CONTAINER[:ro]")
	}
	for _, p := range points {
		if p.Type == mount.TypeImage {
			continue
		}
		w := wish{Mount: specs.Mount{Type: "bind", Source: p.Source, Destination: p.Destination}}
		if p.Name != "" {
			w.volume, w.nocopy = &volumes.Volume{Name: p.Name}, true
		} else {
			w.Options = append(w.Options, string(p.Propagation))
		}
		if !p.RW || mode == "ro" {
			w.Options = append(w.Options, "ro")
		}
		wishes = append(wishes, w)
	}
	return wishes, nil
}

// setMount adds a mount, in place of the usual one if there is one at the same place.
func setMount(spec *specs.Spec, m specs.Mount) {
	if i := slices.IndexFunc(spec.Mounts, func(usual specs.Mount) bool { return usual.Destination == m.Destination }); i >= 0 && m.Destination != "/proc" {
		spec.Mounts[i] = m
		return
	}
	spec.Mounts = append(spec.Mounts, m)
}

func setShmSize(spec *specs.Spec, size string) error {
	bytes, err := units.RAMInBytes(size)
	if err != nil || bytes <= 0 {
		return advice.Add(fmt.Errorf("--shm-size %q: %w", size, ErrOption), "write a number with b, k, m or g, for example 64m")
	}
	for i, m := range spec.Mounts {
		if m.Destination == "/dev/shm" {
			spec.Mounts[i].Options = append(slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return strings.HasPrefix(o, "size=") }),
				fmt.Sprintf("size=%d", bytes))
		}
	}
	return nil
}

// provide sees that what is to be mounted is there. lock is that of a volume, or nil.
func provide(f *overlay.FS, w *wish, store volumes.Store) (lock *os.File, err error) {
	switch {
	case w.volume != nil:
		w.volume.Anonymous = w.volume.Name == ""
		anonymous := w.volume.Anonymous
		if *w.volume, lock, err = store.Open(*w.volume); err != nil {
			return nil, err
		}
		w.volume.Anonymous = anonymous // one that is named again is not this container's only
		w.Type = "bind"
		if w.Source, err = store.Mountpoint(w.volume.Name); err != nil {
			return lock, err
		}
		f.Tell.Run(story.Host, "a volume is a folder of the host, too", "mkdir", "-p", w.Source)
		if w.nocopy {
			return lock, nil
		}
		unused, err := store.Use(*w.volume, f.Tell, story.Host)
		if err != nil {
			return lock, err
		}
		return lock, errors.Join(store.Fill(w.volume.Name, f, w.Destination), unused())
	case w.Type == "bind" && w.make && !isThere(w.Source):
		if err := os.MkdirAll(w.Source, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make the folder of the host that is to be bound: %w", err)
		}
		f.Tell.Run(story.Host, "a folder of the host that is to be bound", "mkdir", "-p", w.Source)
	case w.Type == "bind":
		if _, err := os.Stat(w.Source); err != nil {
			return nil, advice.Add(fmt.Errorf("bind: %w", err), "make it first: mkdir -p %s", w.Source)
		}
	}
	return nil, nil
}

func isThere(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func parseMounts(opts Mounts) (wishes []wish, err error) {
	for _, group := range []struct {
		flag   string
		values []string
		parse  func(string) (wish, error)
	}{{"-v", opts.Volumes, parseVolume}, {"--mount", opts.Mounts, parseMount}, {"--tmpfs", opts.Tmpfs, parseTmpfs}} {
		for _, value := range group.values {
			w, err := group.parse(value)
			if err == nil && (!filepath.IsAbs(w.Destination) || filepath.Clean(w.Destination) == "/") {
				err = advice.Add(fmt.Errorf("%w: %q as a place in the container", ErrOption, w.Destination), "write its whole name: /DIR")
			}
			if err != nil {
				return nil, fmt.Errorf("%s %q: %w", group.flag, value, err)
			}
			w.Destination, w.flag, w.value = filepath.Clean(w.Destination), group.flag, value
			i := slices.IndexFunc(wishes, func(other wish) bool { return other.Destination == w.Destination })
			switch {
			case i < 0:
				wishes = append(wishes, w)
			case w.isUnnamed() || w.flag == "-v" && w.value == wishes[i].value:
			case wishes[i].isUnnamed() || w.flag == "--tmpfs" && w.flag == wishes[i].flag:
				wishes[i] = w
			default:
				return nil, fmt.Errorf("%s %q: something else is mounted on %s already: %s %q", group.flag, value, w.Destination, wishes[i].flag, wishes[i].value)
			}
		}
	}
	return wishes, nil
}

// isUnnamed tells whether a wish is -v /DIR: with docker, anything else that is mounted there is as good.
func (w wish) isUnnamed() bool { return w.flag == "-v" && w.volume != nil && w.volume.Name == "" }

// parseVolume reads [SOURCE:]DESTINATION[:OPTIONS]. A source that begins with / or . is the host's, made as a folder if
// it is missing, as docker does; any other is the name of a volume; none is a volume without a name.
func parseVolume(value string) (w wish, err error) {
	const form = "write [/HOST/DIR:]/DIR[:ro], or NAME:/DIR for a volume"
	parts := strings.Split(value, ":")
	source := parts[0]
	switch len(parts) {
	case 1:
		return wish{Mount: specs.Mount{Destination: source}, volume: &volumes.Volume{}}, nil
	case 2, 3:
		w.Destination = parts[1]
	default:
		return w, advice.Add(ErrOption, form)
	}
	switch {
	case source == "":
		return w, advice.Add(ErrOption, form)
	case filepath.IsAbs(source) || source[0] == '.':
		if w.Source, err = filepath.Abs(source); err != nil {
			return w, err
		}
		w.Type, w.make = "bind", true
	default:
		w.volume = &volumes.Volume{Name: source}
	}
	var kinds []string // of the options
	for _, option := range strings.Split(strings.Join(parts[2:], ""), ",") {
		err := w.addOption(option)
		kind := kindOf(option)
		if slices.Contains(kinds, kind) {
			err = fmt.Errorf("%w: two options for the same: %q", ErrOption, parts[2])
		}
		if err != nil {
			return w, advice.Add(err, form)
		}
		kinds = append(kinds, kind)
	}
	return w, nil
}

// kindOf names what an option decides: one of each kind is allowed.
func kindOf(option string) string {
	switch option {
	case "ro", "rw":
		return "writing"
	case "z", "Z":
		return "label"
	case "consistent", "cached", "delegated":
		return "consistency"
	case "private", "rprivate", "slave", "rslave", "shared", "rshared":
		return "propagation"
	}
	return option
}

// addOption adds one of docker's options behind a volume.
func (w *wish) addOption(option string) error {
	switch option {
	case "", "rw", "consistent", "cached", "delegated": // the last three are of Docker Desktop
	case "nocopy":
		if w.nocopy = true; w.volume == nil {
			return fmt.Errorf("%w: nocopy is only for volumes", ErrOption)
		}
	case "z", "Z":
		if isThere("/sys/fs/selinux/enforce") {
			return fmt.Errorf("%w: %s: SELinux's labels", ErrOption, option)
		}
	case "ro", "private", "rprivate", "slave", "rslave", "shared", "rshared":
		if option != "ro" && w.volume != nil {
			return fmt.Errorf("%w: %s is only for folders of the host", ErrOption, option)
		}
		w.Options = append(w.Options, option)
	case "idmap", "U": // U is podman's: see life's giveMounts
		w.Options = append(w.Options, option)
	default:
		return fmt.Errorf("%w: option %q", ErrOption, option)
	}
	return nil
}

// parseMount reads type=TYPE,source=…,target=…, and docker's other keys. A value may have commas in it if it is quoted.
func parseMount(value string) (w wish, err error) {
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return w, err
	}
	w.Type = "volume"
	v := volumes.Volume{}
	for _, field := range fields {
		if err := w.setField(&v, field); err != nil {
			return w, err
		}
	}
	if len(v.Options) > 0 && w.Type != "volume" {
		return w, fmt.Errorf("%w: volume-opt is only for volumes", ErrOption)
	}
	if w.within != "" && w.Type != runtime.ImageType {
		return w, fmt.Errorf("%w: image-subpath is only for images", ErrOption)
	}
	if slices.Contains(w.Options, "U") && w.Type != "bind" && w.Type != "volume" {
		return w, fmt.Errorf("%w: U is only for volumes and folders of the host", ErrOption)
	}
	switch w.Type {
	case "bind":
		if w.Source == "" {
			return w, fmt.Errorf("%w: a bind without a source", ErrOption)
		}
		w.Source, err = filepath.Abs(w.Source)
	case "volume":
		v.Name, w.Source, w.volume = w.Source, "", &v
		if err := volumes.CheckOptions(v.Options); err != nil {
			return w, err
		}
		if i := slices.IndexFunc(w.Options, func(o string) bool { return kindOf(o) == "propagation" }); i >= 0 {
			return w, fmt.Errorf("%w: bind-propagation=%s is only for folders of the host", ErrOption, w.Options[i])
		}
	case "tmpfs":
		if w.Source != "" {
			return w, fmt.Errorf("%w: a tmpfs with a source", ErrOption)
		}
		w.Source, w.Options = "tmpfs", append([]string{"nosuid", "nodev", "noexec"}, w.Options...)
	case runtime.ImageType:
		if _, err := pull.ParseReference(w.Source); err != nil {
			return w, err
		}
		if w.within != "" && !filepath.IsLocal(w.within) {
			return w, fmt.Errorf("%w: image-subpath=%s leads out of the image", ErrOption, w.within)
		}
	default:
		return w, advice.Add(fmt.Errorf("%w: type %q", ErrOption, w.Type), "there are bind, volume, tmpfs and image")
	}
	return w, err
}

// setField does what one KEY=VALUE of --mount says. v is the volume, if it becomes one.
func (w *wish) setField(v *volumes.Volume, field string) error {
	key, value, hasValue := strings.Cut(field, "=")
	on, notBool := strconv.ParseBool(value)
	on = on || !hasValue
	unknown := fmt.Errorf("%w: %q", ErrOption, field)
	switch strings.ToLower(key) {
	case "type":
		w.Type = strings.ToLower(value)
	case "source", "src":
		w.Source = value
	case "target", "dst", "destination":
		w.Destination = value
	case "readonly", "ro":
		if hasValue && notBool != nil {
			return unknown
		}
		if on {
			w.Options = append(w.Options, "ro")
		}
	case "bind-propagation", "consistency":
		if err := w.addOption(value); err != nil {
			return err
		}
	case "bind-recursive":
		if value != "enabled" && value != "disabled" {
			return unknown
		}
		if value == "disabled" {
			w.Options = append(w.Options, "bind")
		}
	case "image-subpath":
		w.within = value
	case "tmpfs-size":
		bytes, err := units.RAMInBytes(value)
		if err != nil {
			return err
		}
		w.Options = append(w.Options, fmt.Sprintf("size=%d", bytes))
	case "tmpfs-mode":
		if _, err := strconv.ParseUint(value, 8, 12); err != nil {
			return err
		}
		w.Options = append(w.Options, "mode="+value)
	default:
		return w.setVolumeField(v, strings.ToLower(key), value, on, unknown)
	}
	return nil
}

// setVolumeField is setField for what volumes have.
func (w *wish) setVolumeField(v *volumes.Volume, key, value string, on bool, unknown error) error {
	name, content, _ := strings.Cut(value, "=")
	switch key {
	case "u", "chown": // podman's
		if on {
			w.Options = append(w.Options, "U")
		}
	case "volume-nocopy":
		w.nocopy = on
	case "volume-label":
		v.Labels = with(v.Labels, name, content)
	case "volume-opt":
		v.Options = with(v.Options, name, content)
	case "volume-driver":
		if value != "local" {
			return advice.Add(unknown, "there is only local")
		}
	default:
		return unknown
	}
	return nil
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// parseTmpfs reads DIR[:OPTIONS].
func parseTmpfs(value string) (wish, error) {
	destination, options, _ := strings.Cut(value, ":")
	m := specs.Mount{Destination: destination, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec"}}
	if options != "" {
		m.Options = append(m.Options, strings.Split(options, ",")...)
	}
	return wish{Mount: m}, nil
}
