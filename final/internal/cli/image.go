//go:build linux

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/images"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
)

// imageCommand has all commands on images once more, as docker has them.
func imageCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Commands for images", Args: cobra.NoArgs, RunE: help}
	list := imagesCommand(e)
	list.Use = "ls" + strings.TrimPrefix(list.Use, "images")
	list.Aliases = []string{"list"}
	remove := rmiCommand(e)
	remove.Use = "rm" + strings.TrimPrefix(remove.Use, "rmi")
	remove.Aliases = []string{"remove"}
	cmd.AddCommand(
		list, remove, pullCommand(e), pushCommand(e), saveCommand(e), loadCommand(e), importCommand(e), tagCommand(e), untagCommand(e),
		imageInspectCommand(e), historyCommand(e), imagePruneCommand(e), imageHashesCommand(e), imageFilesCommand(e),
		imageLayersCommand(e),
	)
	return cmd
}

func imageInspectCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [flags] IMAGE…",
		Short: "Show everything about images, as JSON",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var found []images.Inspection
			var all error
			for _, arg := range args {
				ref, err := pull.ParseReference(arg)
				if err == nil {
					var i images.Inspection
					if i, err = e.Images().Inspect(ref); err == nil {
						found = append(found, i)
					}
				}
				all = errors.Join(all, err)
			}
			return errors.Join(all, printInspected(cmd.OutOrStdout(), format, found))
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "`json` (one object in each line), or a Go template such as '{{.Config.Cmd}}'")
	return cmd
}

// historyRow is a row of history, with docker's names.
type historyRow struct {
	ID           string `header:"IMAGE"`
	CreatedSince string `header:"CREATED"`
	CreatedAt    string `header:"CREATED AT"`
	CreatedBy    string `header:"CREATED BY"`
	Size         string
	Comment      string
}

const (
	historyTable = `table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
	timesTable   = `table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
)

func historyCommand(e *engine.Engine) *cobra.Command {
	var quiet, whole, human bool
	var format string
	cmd := &cobra.Command{
		Use:   "history [flags] IMAGE",
		Short: "Show how an image was made",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := pull.ParseReference(args[0])
			if err != nil {
				return err
			}
			steps, err := e.Images().History(ref)
			if err != nil {
				return err
			}
			var rows []historyRow
			for _, s := range steps {
				row := historyRow{
					ID: "<missing>", CreatedSince: ago(s.Created.Time), CreatedAt: s.Created.Format("2006-01-02T15:04:05Z07:00"),
					CreatedBy: strings.Join(strings.Fields(s.CreatedBy), " "), Size: shortSize(s.Layer.Files), Comment: s.Comment,
				}
				if !human {
					row.Size = fmt.Sprint(s.Layer.Files)
				}
				switch {
				case s.ID != "" && whole:
					row.ID = "sha256:" + s.ID
				case s.ID != "":
					row.ID = dirs.Short(s.ID)
				}
				if by := []rune(row.CreatedBy); !whole && len(by) > 45 {
					row.CreatedBy = string(by[:44]) + "…"
				}
				rows = append(rows, row)
			}
			if quiet {
				return printRows(cmd.OutOrStdout(), "{{.ID}}", "", false, rows)
			}
			usual := historyTable
			if !human {
				usual = timesTable
			}
			return printFormatted(cmd.OutOrStdout(), format, usual, rows)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "only the ids")
	f.BoolVar(&whole, "no-trunc", false, "whole ids and commands")
	f.BoolVarP(&human, "human", "H", true, "show sizes and times in short words")
	f.StringVar(&format, "format", "", formatHelp)
	return cmd
}

func imagePruneCommand(e *engine.Engine) *cobra.Command {
	var all, force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove images without a name, and the remains of crashes and broken pulls",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			what := map[bool]string{false: "images without a name", true: "images that no container uses"}[all]
			if _, err := images.ParsePrune(filters); err != nil {
				return err
			}
			if !force && !confirm(cmd, "This removes all "+what+", and the remains of broken pulls.") {
				return nil
			}
			n, err := pruneImages(cmd.OutOrStdout(), e, all, filters)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "Total reclaimed space:", sized(n))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "also images that have a name, if no container uses them")
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.Var((*list)(&filters), "filter", pruneFilterHelp)
	return cmd
}

func imageHashesCommand(e *engine.Engine) *cobra.Command {
	var verify bool
	var format string
	cmd := &cobra.Command{
		Use:   "hashes [flags] IMAGE",
		Short: "Show all digests of an image, and where its layers are",
		Long: `Show all digests of an image:

  index     digest of the list of manifests, one for each platform
  manifest  digest of the list of config and layers
  config    digest of the config: it is the image's id
  digest    of a layer as it is sent, compressed
  diffID    digest of the tar archive in a layer
  chainID   digest of a layer and all layers below it: the name of its folder`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := pull.ParseReference(args[0])
			if err != nil {
				return err
			}
			h, err := e.Images().Hashes(ref, verify)
			if err != nil {
				return err
			}
			if format != "" {
				err = printInspected(cmd.OutOrStdout(), format, []images.Hashes{h})
			} else {
				printHashes(cmd.OutOrStdout(), h, verify)
			}
			if err == nil && len(h.Findings) > 0 {
				err = exit{status: exitFailed}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "recompute each digest, and compare the files with the layers as they were sent")
	cmd.Flags().StringVarP(&format, "format", "f", "", "`json`, or a Go template such as '{{.Config}}'")
	return cmd
}

func printHashes(w io.Writer, h images.Hashes, verified bool) {
	for _, sent := range h.Sent {
		name := cmp.Or(sent.Reference, "an archive")
		if sent.Digest != sent.Manifest {
			fmt.Fprintf(w, "index     %s  %s\n", sent.Digest, name)
		}
		fmt.Fprintf(w, "manifest  %s  %s, %s\n", sent.Manifest, name, sent.Platform)
	}
	if h.Config != "" {
		fmt.Fprintf(w, "config    %s  image %s\n", h.Config, h.ID)
	}
	for i, layer := range h.Layers {
		fmt.Fprintf(w, "layer %d\n", i+1)
		fmt.Fprintf(w, "  digest  %s  %s\n", layer.Digest, units.HumanSize(float64(layer.Size)))
		fmt.Fprintf(w, "  diffID  %s  %s unpacked\n", layer.DiffID, units.HumanSize(float64(layer.Files)))
		fmt.Fprintf(w, "  chainID %s\n", layer.ChainID)
		fmt.Fprintf(w, "  folder  %s\n", layer.Folder)
	}
	for _, f := range h.Findings {
		fmt.Fprintf(w, "%s: %s; %s\n", f.Path, f.What, f.Advice)
	}
	if verified && len(h.Findings) == 0 {
		fmt.Fprintln(w, "All of them were recomputed, and all files compared: everything is as it should be")
	}
}
