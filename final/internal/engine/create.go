//go:build linux

package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/attach"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
)

// RunOptions are the flags of "gocker create" and "gocker run". What is empty is the image's choice. A container's
// state keeps them.
type RunOptions struct {
	Image       pull.Reference
	Pull        string   // "always", "missing", also if empty, or "never"
	Platform    string   // of the image, "linux/arm64"; empty is this machine's
	Args        []string // instead of the image's Cmd
	Entrypoint  *string  // instead of the image's Entrypoint and Cmd; "" is none at all
	Name        string
	Hostname    string
	Env         []string // KEY=value
	Labels      map[string]string
	Workdir     string
	User        string
	Terminal    bool
	Interactive bool
	Detached    bool // nobody is attached when it starts

	Replace     bool   // remove the container that has the name
	CIDFile     string // is written with the id
	Remove      bool   // at its end
	Usage       bool   // tell on standard error, at its end, what it used
	RemoveImage bool   // then too, if nobody else uses it
	StopSignal  string
	StopTimeout *int // seconds from the stop signal to SIGKILL; negative: for ever
	Restart     RestartPolicy
	Log         LogDriver

	Limits     Limits
	Mounts     Mounts
	Isolation  Isolation
	Attributes Attributes
	Names      Names
}

// A container is one that this process has: it holds the lock on its folder, and its file system is mounted.
type container struct {
	Engine
	fs     *overlay.FS
	spec   *specs.Spec
	state  State
	log    *log           // nil if it has none
	server *attach.Server // nil if nobody can be attached
	kept   bool           // somebody stays who starts it again
}

// Create makes a container, and no process. Start starts it.
func (e Engine) Create(opts RunOptions, say func(format string, args ...any)) (id string, err error) {
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := e.create(ctx, opts, say)
	if err != nil {
		return "", err
	}
	return c.state.ID, errors.Join(c.change(func(s *State) { s.Status = specs.StateCreated }), c.close())
}

// create makes a container: its folder, its name, config.json, and at the very end state.json. If it fails, nothing is
// left. Until it runs, or its maker changes that, it is "creating": nobody has it yet, and if we die, it goes.
func (e Engine) create(ctx context.Context, opts RunOptions, say func(format string, args ...any)) (_ *container, err error) {
	if _, err := opts.Limits.Resources(); err != nil { // before anything is pulled
		return nil, err
	}
	if r := check.Privilege(); !r.OK {
		return nil, check.Explain(errors.New("make a container"), []check.Result{r})
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	if err := e.nameOthers(&opts.Isolation); err != nil {
		return nil, err
	}
	// Package json looks at all that a type has when it meets it first. For these two that is a millisecond, which passes
	// here while the image is read.
	go json.Marshal([]any{specs.Spec{}, State{}})
	img, err := e.image(ctx, opts, say)
	if err != nil {
		return nil, err
	}
	if opts.Replace {
		if err := e.Rm(opts.Name, RmOptions{Force: true}); err != nil && !errors.Is(err, ErrNoContainer) {
			return nil, err
		}
	}
	f, err := overlay.Create(e.Dirs, img, e.Tell)
	if err != nil {
		return nil, err
	}
	c := &container{Engine: e, fs: f, state: State{
		State: specs.State{Version: specs.Version, ID: f.ID, Status: specs.StateCreating, Bundle: f.Dir},
		Name:  opts.Name, Image: opts.Image.String(), ImageID: img.Digest, Created: time.Now(), Options: opts,
		StopSignal: cmp.Or(opts.StopSignal, img.Config.Config.StopSignal, "SIGTERM"),
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove(true))
		}
	}()
	if err := c.takeSomeName(); err != nil {
		return nil, err
	}
	f.Volatile = opts.Remove
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
	if opts.Attributes.Init {
		if err := c.addInit(); err != nil {
			return nil, err
		}
	}
	c.spec.Annotations = maps.Clone(img.Config.Config.Labels)
	for key, value := range opts.Labels {
		c.spec.Annotations = put(c.spec.Annotations, key, value)
	}
	c.state.Annotations = c.spec.Annotations
	if err := writeJSON(filepath.Join(f.Dir, "config.json"), c.spec); err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(f.Dir, stateName), c.state); err != nil {
		return nil, err
	}
	if opts.CIDFile != "" {
		if err := writeID(opts.CIDFile, f.ID); err != nil {
			return nil, err
		}
	}
	c.event("create", c.state)
	return c, context.Cause(ctx)
}

// check finds what is wrong with the options before anything is done.
func (o RunOptions) check() error {
	switch {
	case o.Remove && o.Restart.Name != "" && o.Restart.Name != "no":
		return advice.Add(errors.New("--rm and --restart contradict each other"), "a container that is removed at its end cannot be started again")
	case o.Replace && o.Name == "":
		return advice.Add(errors.New("--replace: which container?"), "name it: --name NAME")
	case !slices.Contains([]string{"", "always", "missing", "never"}, o.Pull):
		return advice.Add(fmt.Errorf("--pull %q: %w", o.Pull, ErrOption), "there are always, missing and never")
	}
	if err := checkProcess(o.Workdir, o.Env); err != nil {
		return err
	}
	if o.StopSignal != "" {
		if _, err := parseSignal(o.StopSignal); err != nil {
			return err
		}
	}
	return nil
}

// checkProcess is for the flags that run and exec have in common.
func checkProcess(workdir string, env []string) error {
	if workdir != "" && !filepath.IsAbs(workdir) {
		return advice.Add(fmt.Errorf("--workdir %q: %w", workdir, ErrOption), "write its whole name: /DIR")
	}
	for _, variable := range env {
		if strings.HasPrefix(variable, "=") {
			return advice.Add(fmt.Errorf("--env %q: %w", variable, ErrOption), "write NAME=VALUE")
		}
	}
	return nil
}

// image opens the image, and pulls it where it is not here.
func (e Engine) image(ctx context.Context, opts RunOptions, say func(format string, args ...any)) (layers.Image, error) {
	var platform *v1.Platform
	if opts.Platform != "" {
		var err error
		if platform, err = v1.ParsePlatform(opts.Platform); err != nil {
			return layers.Image{}, fmt.Errorf("--platform %q: %w", opts.Platform, err)
		}
	}
	if opts.Pull == "always" {
		img, err := e.Pull(ctx, opts.Image, PullOptions{Platform: platform})
		return img.Image, err
	}
	image, err := layers.Lookup(e.Dirs, opts.Image)
	if err == nil {
		img, err := layers.Open(e.Dirs, image)
		if err != nil || platform == nil || img.Config.Platform().Satisfies(*platform) {
			return img, err
		}
		if opts.Pull == "never" {
			return img, fmt.Errorf("image %s is for %s, not for %s", opts.Image, img.Config.Platform(), platform)
		}
		say("Image %s is here for %s: pulling it for %s", opts.Image, img.Config.Platform(), platform)
	} else if !errors.Is(err, layers.ErrNoImage) || opts.Pull == "never" {
		return layers.Image{}, err
	} else {
		say("Unable to find image %s here: pulling it", opts.Image)
	}
	img, err := e.Pull(ctx, opts.Image, PullOptions{Platform: platform})
	return img.Image, err
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
	// Programs such as Java's size themselves by the limits that they read there.
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}})
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

// writeID makes the file of --cidfile, which may not be there.
func writeID(name, id string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return advice.Add(fmt.Errorf("--cidfile: %w", err), "another container was made with it; remove it: rm %s", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(id)
	return errors.Join(err, f.Close())
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
