//go:build linux

package describe

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"gocker/final/internal/images"
	"gocker/final/internal/signame"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
)

// These errors say what is wrong with options.
var ErrOption = errors.New("not supported") // a flag's value is not one that gocker knows

// Options are the flags of "gocker create" and "gocker run". An empty field is the image's choice. A container's
// state keeps them, without groups that nobody has used: there the lists of containers would spend most of their time.
type Options struct {
	Image       pull.Reference
	Pull        string   // "always", "missing", also if empty, or "never"
	Platform    string   // of the image, "linux/arm64"; empty is this machine's
	Args        []string // instead of the image's Cmd
	Entrypoint  *string  // instead of the image's Entrypoint and Cmd; "" is none at all
	Name        string
	Hostname    string
	Env         []string // KEY=value
	Labels      map[string]string
	Annotations map[string]string `json:",omitempty"` // of config.json, beside the labels
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
	StopTimeout *int                 // seconds from the stop signal to SIGKILL; negative: for ever
	Restart     RestartPolicy        `json:",omitzero"`
	Log         LogDriver            `json:",omitzero"`
	Healthcheck *docker.HealthConfig `json:",omitempty"` // how the container is asked whether it works; what is zero is the image's, or docker's

	Limits     Limits     `json:",omitzero"`
	Mounts     Mounts     `json:",omitzero"`
	Isolation  Isolation  `json:",omitzero"`
	Attributes Attributes `json:",omitzero"`
	Names      Names      `json:",omitzero"`
	Network    Network    `json:",omitzero"` // only where Isolation.Network is empty
}

// Check finds what is wrong with the options before anything is done.
func (o Options) Check() error {
	switch {
	case o.Remove && o.Restart.Name != "" && o.Restart.Name != "no":
		return advice.Add(errors.New("--rm and --restart contradict each other"), "a container that is removed at its end cannot be started again")
	case o.Replace && o.Name == "":
		return advice.Add(errors.New("--replace: which container?"), "name it: --name NAME")
	case !slices.Contains([]string{"", "always", "missing", "never"}, o.Pull):
		return advice.Add(fmt.Errorf("--pull %q: %w", o.Pull, ErrOption), "there are always, missing and never")
	}
	if err := CheckProcess(o.Workdir, o.Env); err != nil {
		return err
	}
	if err := o.Restart.Check(); err != nil {
		return err
	}
	if o.Healthcheck != nil {
		if err := images.CheckHealth(o.Healthcheck); err != nil {
			return err
		}
	}
	if err := o.Isolation.Users.Check(o.Isolation); err != nil {
		return err
	}
	if o.StopSignal != "" {
		if _, err := signame.Parse(o.StopSignal); err != nil {
			return err
		}
	}
	return nil
}

// CheckProcess is for the flags that run and exec have in common.
func CheckProcess(workdir string, env []string) error {
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
