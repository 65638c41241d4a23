//go:build linux

// Package describe makes the description of a container, as the OCI runtime specification has it, of an image's config and
// the options of gocker run.
package describe

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/images"
	"gocker/final/internal/volumes"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
)

// A Description is what a container is made by.
type Description struct {
	Spec    *specs.Spec
	Command []string          // the container's own, without the init that may stand in front of it
	Labels  map[string]string // the image's and its own
	Volumes []string          // the names of those that were made for it only
	locks   []*os.File        // of its volumes
}

// Release lets others remove the container's volumes again.
func (d Description) Release() {
	for _, lock := range d.locks {
		lock.Close()
	}
}

// Container describes a container whose root is mounted: its image's config, changed by the flags. It makes what the
// container is to have mounted: volumes, and files in its own folder. lent is what the containers of --volumes-from have.
// The description is to be released also after an error.
func Container(f *overlay.FS, config v1.Config, opts Options, lent Lent, store volumes.Store) (d Description, err error) {
	hostname, err := Hostname(opts, f.ID)
	if err != nil {
		return d, err
	}
	if opts.Hostname == "" && opts.Isolation.UTS != "host" {
		hostname = othersHostname(f, opts, hostname)
	}
	if d.Spec, err = newSpec(f, config, hostname, opts); err != nil {
		return d, err
	}
	if err := limit(d.Spec, f.ID, opts.Limits, opts.Isolation.Privileged); err != nil {
		return d, err
	}
	if d.Volumes, d.locks, err = addMounts(f, d.Spec, config.Volumes, opts.Mounts, lent, store); err != nil {
		return d, err
	}
	if err := addNames(f, d.Spec, hostname, opts); err != nil {
		return d, err
	}
	if d.Command = d.Spec.Process.Args; opts.Attributes.Init {
		if err := addInit(f, d.Spec); err != nil {
			return d, err
		}
	}
	if err := mapMounts(d.Spec, opts.Isolation.Users, f.Dir, store.Dirs); err != nil {
		return d, err
	}
	d.Labels = map[string]string{}
	maps.Copy(d.Labels, config.Labels)
	maps.Copy(d.Labels, opts.Labels)
	d.Spec.Annotations = maps.Clone(d.Labels)
	maps.Copy(d.Spec.Annotations, opts.Annotations)
	return d, nil
}

// newSpec describes the container: the image's config, changed by the flags.
func newSpec(f *overlay.FS, config v1.Config, hostname string, opts Options) (*specs.Spec, error) {
	args := append(slices.Clone(config.Entrypoint), cmpOr(opts.Args, config.Cmd)...)
	if opts.Entrypoint != nil {
		args = opts.Args
		if *opts.Entrypoint != "" {
			args = append([]string{*opts.Entrypoint}, opts.Args...)
		}
	}
	if len(args) == 0 {
		return nil, advice.Add(fmt.Errorf("image %s has no command", opts.Image), "name one: gocker run %s COMMAND", opts.Image)
	}
	own, err := opts.Isolation.Users.user()
	if err != nil {
		return nil, err
	}
	user, err := lookOrLeave(f, cmp.Or(opts.User, own, config.User), opts.Attributes.GroupAdd)
	if err != nil {
		return nil, err
	}
	spec := namespaces.Spec(f.Mnt(), hostname, args)
	// Programs such as Java's size themselves by the limits that they read there.
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}})
	spec.Process.User = user.User
	spec.Process.Cwd = filepath.Join("/", cmp.Or(opts.Workdir, config.WorkingDir))
	env := append(spec.Process.Env, "HOSTNAME="+hostname, "HOME="+user.Home)
	if spec.Process.Terminal = opts.Terminal; opts.Terminal {
		env = append(env, "TERM=xterm")
	}
	spec.Process.Env = images.LastOfEach(append(append(env, config.Env...), opts.Env...))
	if err := setAttributes(spec, opts.Attributes); err != nil {
		return nil, err
	}
	if err := isolate(spec, opts.Isolation); err != nil {
		return nil, err
	}
	if err := restrict(spec, opts.Isolation); err != nil {
		return nil, err
	}
	return spec, nil
}

func cmpOr(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}
