//go:build linux

package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/networks"
	"gocker/final/internal/volumes"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/local"
)

// inspectHelp is what --format says of itself in the commands that inspect.
const inspectHelp = "`json` (one object in each line), or a Go template such as '{{.State.Status}}'"

// inspectKinds are what can be inspected, in the order in which a name is looked for.
var inspectKinds = []string{"container", "image", "network", "volume"}

func inspectCommand(e *engine.Engine) *cobra.Command {
	var format, kind string
	var size bool
	cmd := &cobra.Command{
		Use:   "inspect [flags] NAME…",
		Short: "Show everything about containers, images, networks or volumes, as JSON",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kinds := inspectKinds
			if kind != "" {
				if !slices.Contains(kinds, kind) {
					return advice.Add(fmt.Errorf("--type %q: %w", kind, describe.ErrOption), "there are %s", strings.Join(kinds, ", "))
				}
				kinds = []string{kind}
			}
			return inspect(cmd, args, format, func(name string) (any, error) {
				for _, k := range kinds {
					found, err := inspectOne(e, k, name, size)
					if isMissing(err) && len(kinds) > 1 {
						continue
					}
					return found, err
				}
				return nil, fmt.Errorf("no such object: %q", name)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&format, "format", "f", "", inspectHelp)
	f.BoolVarP(&size, "size", "s", false, "for containers also show SizeRw, the size of what they added and changed, and SizeRootFs, the size with the image")
	f.StringVar(&kind, "type", "", "`container|image|network|volume`: only one of that name")
	return cmd
}

func containerInspectCommand(e *engine.Engine) *cobra.Command {
	var format string
	var size bool
	cmd := &cobra.Command{
		Use:   "inspect [flags] CONTAINER…",
		Short: "Show everything about containers, as JSON",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect(cmd, args, format, func(name string) (any, error) { return e.Look().Inspect(name, size) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", inspectHelp)
	cmd.Flags().BoolVarP(&size, "size", "s", false, "also show SizeRw, the size of what they added and changed, and SizeRootFs, the size with the image")
	return cmd
}

// inspect prints what is found, also if something else is not.
func inspect(cmd *cobra.Command, args []string, format string, find func(name string) (any, error)) error {
	var found []any
	var all error
	for _, arg := range args {
		one, err := find(arg)
		if err == nil {
			found = append(found, one)
		}
		all = errors.Join(all, err)
	}
	if format != "" && found == nil {
		return all
	}
	return errors.Join(printInspected(cmd.OutOrStdout(), format, found), all)
}

func inspectOne(e *engine.Engine, kind, name string, size bool) (any, error) {
	switch kind {
	case "container":
		return e.Look().Inspect(name, size)
	case "image":
		ref, err := pull.ParseReference(name)
		if err != nil {
			return nil, err
		}
		return e.Images().Inspect(ref)
	case "network":
		return e.Look().Network(name)
	}
	return inspectVolume(e, name)
}

// isMissing tells whether an error says that nothing has this name, or that nothing can have it.
func isMissing(err error) bool {
	for _, missing := range []error{containers.ErrNoContainer, local.ErrNoImage, pull.ErrReference, networks.ErrNoNetwork, volumes.ErrNoVolume} {
		if errors.Is(err, missing) {
			return true
		}
	}
	return false
}
