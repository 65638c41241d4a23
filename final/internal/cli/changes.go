//go:build linux

package cli

import (
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/step01-pull/shared/dirs"
)

// diffRow is a row of diff, as docker has it.
type diffRow struct{ Kind, Path string }

func diffCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "diff CONTAINER",
		Short: "Show what a container added (A), changed (C) and deleted (D)",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := e.Look().Changes(args[0])
			if err != nil {
				return err
			}
			var rows []diffRow
			for _, c := range changes {
				rows = append(rows, diffRow{string(c.Kind), c.Path})
			}
			return printFormatted(cmd.OutOrStdout(), "", "{{.Kind}} {{.Path}}", rows)
		},
	}
}

// changeRow is a row of layers.
type changeRow struct {
	Change string
	Type   string
	Size   string
	Path   string
	Layer  string `header:"ORIGINAL IN LAYER"` // its number, 1 is the lowest
	Digest string // of that layer
}

func layersCommand(e *engine.Engine) *cobra.Command {
	var format string
	var whole bool
	cmd := &cobra.Command{
		Use:   "layers [flags] CONTAINER",
		Short: "Show what a container added, updated and deleted, and which layer of its image has the original",
		Long: "Show what a container added, updated and deleted, and which layer of its image has the original. Layer 1 is the\n" +
			"lowest. A container changes no layer: its changes are in a folder of its own, above all layers.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := e.Look().Changes(args[0])
			if err != nil {
				return err
			}
			var rows []changeRow
			for _, c := range changes {
				row := changeRow{
					Change: map[byte]string{'A': "added", 'C': "updated", 'D': "deleted"}[c.Kind],
					Type:   typeName(c.Type), Size: units.HumanSize(float64(c.Size)), Path: c.Path, Layer: "-", Digest: "-",
				}
				if c.Below >= 0 {
					row.Layer, row.Digest = strconv.Itoa(c.Below+1), c.Original.Digest
					if !whole {
						row.Digest = dirs.Short(strings.TrimPrefix(row.Digest, "sha256:"))
					}
				}
				rows = append(rows, row)
			}
			return printFormatted(cmd.OutOrStdout(), format, `table {{.Change}}\t{{.Type}}\t{{.Size}}\t{{.Path}}\t{{.Layer}}\t{{.Digest}}`, rows)
		},
	}
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "whole digests")
	cmd.Flags().StringVar(&format, "format", "", formatHelp)
	return cmd
}
