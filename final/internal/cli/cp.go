//go:build linux

package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/cp"
	"gocker/final/internal/engine"
	"gocker/final/internal/life"
	"gocker/step01-pull/shared/advice"
)

func cpCommand(e *engine.Engine) *cobra.Command {
	var opts life.CopyOptions
	var quiet bool
	cmd := &cobra.Command{
		Use:   "cp [flags] CONTAINER:SOURCE TARGET|-\n  gocker cp [flags] SOURCE|- CONTAINER:TARGET",
		Short: "Copy files between a container and the host",
		Long: `Copy a file, or a folder with its content, between a container and the host. The container need not run.

If TARGET is a folder, the copy goes into it. Otherwise TARGET is the name of the copy, and the folder above must exist.
SOURCE/. is the content of a folder, without the folder itself. A link is copied as a link.

If you write - for one side, a tar archive comes from standard input, or goes to standard output.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			fromContainer, from := splitPath(args[0])
			toContainer, to := splitPath(args[1])
			switch {
			case fromContainer != "" && toContainer != "":
				return advice.Add(errors.New("cp between two containers is not supported"),
					"use two: gocker cp %s - | gocker cp - %s", args[0], args[1])
			case fromContainer != "":
				var output io.Writer
				if to == "-" {
					output = cmd.OutOrStdout()
				}
				return failedCopy(args, e.Life().CopyFrom(fromContainer, from, to, output, opts))
			case toContainer != "":
				var input io.Reader
				if from == "-" {
					input = cmd.InOrStdin()
				}
				return failedCopy(args, e.Life().CopyTo(from, input, toContainer, to, opts))
			}
			return advice.Add(fmt.Errorf("cp %s %s: neither is in a container", args[0], args[1]), "write one as CONTAINER:PATH")
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.Archive, "archive", "a", false, "copies into a container belong to its user, unless that is root; copies out of a container keep their owners")
	f.BoolVarP(&opts.Follow, "follow-link", "L", false, "if SOURCE is a link, copy the file that it leads to")
	f.BoolVarP(&quiet, "quiet", "q", false, "changes nothing: cp prints nothing unless it fails")
	return cmd
}

// splitPath reads CONTAINER:PATH, or a PATH of the host: one that begins with / or . is. In a container all names begin at
// the root.
func splitPath(arg string) (container, path string) {
	container, path, ok := strings.Cut(arg, ":")
	if !ok || container == "" || filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	if !filepath.IsAbs(path) {
		path = "/" + path
	}
	return container, path
}

func failedCopy(args []string, err error) error {
	if err != nil {
		mounted := errors.Is(err, cp.ErrMounted)
		err = fmt.Errorf("cp %s %s: %w", args[0], args[1], err)
		if container, path := splitPath(args[1]); mounted {
			err = advice.Add(err, "write into it: gocker exec -i %s sh -c 'cat >%s' <FILE", container, path)
		}
	}
	return err
}
