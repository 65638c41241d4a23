//go:build linux

package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/advice"
	"gocker/step01-pull/check"
	"gocker/step01-pull/pull"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
)

// RunOptions are the flags of "gocker create" and "gocker run". What is empty is the image's choice. A container's
// state keeps them.
type RunOptions struct {
	Image       pull.Reference
	Args        []string // instead of the image's Cmd
	Entrypoint  *string  // instead of the image's Entrypoint and Cmd; "" is none at all
	Name        string
	Hostname    string
	Env         []string // KEY=value
	Workdir     string
	User        string
	Terminal    bool
	Interactive bool
	Remove      bool // at its end

	Limits     Limits
	Mounts     Mounts
	Isolation  Isolation
	Attributes Attributes
	Names      Names
}

// A container is one that this process has: it holds the lock on its folder, and its file system is mounted.
type container struct {
	Engine
	fs    *overlay.FS
	spec  *specs.Spec
	state State
	log   *log // nil if it has none
}

// Create makes a container, and no process. Start starts it.
func (e Engine) Create(opts RunOptions, say func(format string, args ...any)) (id string, err error) {
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := e.create(ctx, opts, say)
	if err != nil {
		return "", err
	}
	return c.state.ID, c.close()
}

// create makes a container: its folder, its name, config.json, and at the very end state.json. If it fails, nothing is
// left.
func (e Engine) create(ctx context.Context, opts RunOptions, say func(format string, args ...any)) (_ *container, err error) {
	if _, err := opts.Limits.Resources(); err != nil { // before anything is pulled
		return nil, err
	}
	if r := check.Privilege(); !r.OK {
		return nil, check.Explain(errors.New("make a container"), []check.Result{r})
	}
	if err := e.nameOthers(&opts.Isolation); err != nil {
		return nil, err
	}
	img, err := e.image(ctx, opts.Image, say)
	if err != nil {
		return nil, err
	}
	f, err := overlay.Create(e.Dirs, img, e.Tell)
	if err != nil {
		return nil, err
	}
	c := &container{Engine: e, fs: f, state: State{
		State: specs.State{Version: specs.Version, ID: f.ID, Status: specs.StateCreated, Bundle: f.Dir},
		Name:  cmp.Or(opts.Name, f.ID), Image: opts.Image.String(), ImageID: img.Digest, Created: time.Now(), Options: opts,
		StopSignal: cmp.Or(img.Config.Config.StopSignal, "SIGTERM"),
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove(true))
		}
	}()
	if err := e.takeName(c.state.Name, f.ID); err != nil {
		return nil, err
	}
	// Who its user is, its own /etc/passwd says.
	if err := f.Mount(); err != nil {
		return nil, err
	}
	if c.spec, err = e.spec(f, img.Config.Config, opts); err != nil {
		return nil, err
	}
	if err := limit(c.spec, f.ID, opts.Limits, opts.Isolation.Privileged); err != nil {
		return nil, err
	}
	volumes, locks, err := e.addMounts(f, c.spec, img.Config.Config.Volumes, opts.Mounts)
	c.state.Volumes = volumes
	defer func() { // when config.json says that they are used
		for _, lock := range locks {
			lock.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := c.addNames(); err != nil {
		return nil, err
	}
	c.state.Command = c.spec.Process.Args
	if err := writeJSON(filepath.Join(f.Dir, "config.json"), c.spec); err != nil {
		return nil, err
	}
	if err := c.writeState(); err != nil {
		return nil, err
	}
	return c, context.Cause(ctx)
}

// image opens the image, and pulls it where it is not here.
func (e Engine) image(ctx context.Context, ref pull.Reference, say func(format string, args ...any)) (layers.Image, error) {
	image, err := layers.Lookup(e.Dirs, ref)
	if errors.Is(err, layers.ErrNoImage) {
		say("Unable to find image %s here: pulling it", ref)
		img, err := e.Pull(ctx, ref, PullOptions{})
		return img.Image, err
	}
	if err != nil {
		return layers.Image{}, err
	}
	return layers.Open(e.Dirs, image)
}

// spec describes the container: the image's config, changed by the flags.
func (e Engine) spec(f *overlay.FS, config v1.Config, opts RunOptions) (*specs.Spec, error) {
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
	user, err := lookUser(f, cmp.Or(opts.User, config.User), opts.Attributes.GroupAdd...)
	if err != nil {
		return nil, err
	}
	hostname, err := hostname(opts, f.ID)
	if err != nil {
		return nil, err
	}
	spec := namespaces.Spec(f.Mnt(), hostname, args)
	spec.Process.User = user.User
	spec.Process.Cwd = filepath.Join("/", cmp.Or(opts.Workdir, config.WorkingDir))
	env := append(spec.Process.Env, "HOSTNAME="+hostname, "HOME="+user.home)
	if spec.Process.Terminal = opts.Terminal; opts.Terminal {
		env = append(env, "TERM=xterm")
	}
	spec.Process.Env = lastOfEach(append(append(env, config.Env...), opts.Env...))
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

// lastOfEach keeps the last value of every variable, at the place of the first.
func lastOfEach(env []string) []string {
	var out []string
	at := map[string]int{}
	for _, variable := range env {
		key, _, _ := strings.Cut(variable, "=")
		if i, ok := at[key]; ok {
			out[i] = variable
			continue
		}
		at[key] = len(out)
		out = append(out, variable)
	}
	return out
}
