//go:build linux

package cli

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
)

// fileRow is a row of image files.
type fileRow struct {
	Layer   string // the number of the layer that the name comes from, "-" where it is deleted
	Type    string
	Size    string
	Path    string
	Changes string // "1 added, 3 updated": what layers did
}

func imageFilesCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "files [flags] IMAGE [PATH]",
		Short: "Show from which layer a file comes, and every layer that added, updated or deleted it",
		Long: "Show from which layer a file comes, or each file of a folder, and every layer that added, updated or deleted it.\n" +
			"Layer 1 is the lowest. A deleted file comes from no layer: layers have it, but containers do not see it.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := pull.ParseReference(args[0])
			if err != nil {
				return err
			}
			files, err := e.Images().Files(ref, strings.Join(args[1:], ""))
			if err != nil {
				return err
			}
			var rows []fileRow
			for _, f := range files {
				row := fileRow{Path: f.Path, Layer: "-", Type: "-", Size: "-"}
				var changes []string
				for _, c := range f.Changes {
					changes = append(changes, fmt.Sprintf("%d %s", c.Layer, c.Kind))
					if c.Layer == f.Layer() {
						row.Layer, row.Type, row.Size = fmt.Sprint(c.Layer), typeName(c.Type), units.HumanSize(float64(c.Size))
					}
				}
				row.Changes = strings.Join(changes, ", ")
				rows = append(rows, row)
			}
			return printFormatted(cmd.OutOrStdout(), format, `table {{.Layer}}\t{{.Type}}\t{{.Size}}\t{{.Path}}\t{{.Changes}}`, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", formatHelp)
	return cmd
}

// typeName says in a word what fs.FileMode begins with.
func typeName(letter string) string {
	names := map[string]string{"-": "file", "d": "folder", "L": "link", "p": "fifo", "S": "socket", "D": "device"}
	return names[letter]
}

// layerRow is a row of image layers.
type layerRow struct {
	Layer                   int
	Digest                  string
	Added, Updated, Deleted int
	Size                    string
	Hidden                  string // by later layers
	CreatedBy               string `header:"CREATED BY"`
}

func imageLayersCommand(e *engine.Engine) *cobra.Command {
	var format string
	var whole bool
	cmd := &cobra.Command{
		Use:   "layers [flags] IMAGE",
		Short: "Show what each layer added, updated and deleted, and how much of it later layers hide",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := pull.ParseReference(args[0])
			if err != nil {
				return err
			}
			contents, err := e.Images().Contents(ref)
			if err != nil {
				return err
			}
			var rows []layerRow
			for i, c := range contents {
				row := layerRow{
					i + 1, c.Digest, c.Added, c.Updated, c.Deleted, units.HumanSize(float64(c.Files)),
					units.HumanSize(float64(c.Hidden)), strings.Join(strings.Fields(c.CreatedBy), " "),
				}
				if !whole {
					row.Digest = dirs.Short(strings.TrimPrefix(row.Digest, "sha256:"))
					if by := []rune(row.CreatedBy); len(by) > 45 {
						row.CreatedBy = string(by[:44]) + "…"
					}
				}
				rows = append(rows, row)
			}
			return printFormatted(cmd.OutOrStdout(), format,
				`table {{.Layer}}\t{{.Digest}}\t{{.Added}}\t{{.Updated}}\t{{.Deleted}}\t{{.Size}}\t{{.Hidden}}\t{{.CreatedBy}}`, rows)
		},
	}
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "whole digests and commands")
	cmd.Flags().StringVar(&format, "format", "", formatHelp)
	return cmd
}
