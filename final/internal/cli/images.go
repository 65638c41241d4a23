//go:build linux

package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
)

// imageRow is a row of images, with docker's names.
type imageRow struct {
	Repository   string
	Tag          string
	Digest       string
	ID           string `header:"IMAGE ID"`
	CreatedSince string `header:"CREATED"`
	CreatedAt    string `header:"CREATED AT"`
	Size         string
	VirtualSize  string `header:"SIZE"`
	SharedSize   string `header:"SHARED SIZE"` // these three only system df counts
	UniqueSize   string `header:"UNIQUE SIZE"`
	Containers   string
}

// unknown is what docker's list says of what it does not count.
const unknown = "N/A"

const (
	imagesTable        = `table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}`
	imagesDigestsTable = `table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}`
)

func imagesCommand(e *engine.Engine) *cobra.Command {
	var quiet, whole, digests, all, tree bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "images [flags] [NAME[:TAG]]",
		Short: "List the images that are here",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				filters = append(filters, "reference="+args[0])
			}
			if tree {
				return printTree(cmd.OutOrStdout(), e, filters)
			}
			images, err := e.Images().List(filters, digests || format == "json" || strings.Contains(format, ".Digest"))
			if images == nil && err != nil {
				return err
			}
			var rows []imageRow
			for _, i := range images {
				row := imageRow{
					Repository: i.Repository, Tag: i.Tag, Digest: "<none>", ID: i.ID, CreatedSince: ago(i.Created),
					CreatedAt: i.Created.Format("2006-01-02 15:04:05 -0700 MST"), Size: shortSize(i.Size),
					VirtualSize: shortSize(i.Size), SharedSize: unknown, UniqueSize: unknown, Containers: unknown,
				}
				if whole {
					row.ID = "sha256:" + i.Summary.Digest
				}
				for n := range max(1, len(i.Digests)) { // an image that registries have under several digests has several rows
					if n < len(i.Digests) {
						row.Digest = i.Digests[n]
					}
					if n == 0 || digests {
						rows = append(rows, row)
					}
				}
			}
			usual := imagesTable
			switch {
			case quiet:
				format = "{{.ID}}"
			case digests:
				usual = imagesDigestsTable
			}
			return errors.Join(printRows(cmd.OutOrStdout(), format, usual, !quiet, rows), err)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "only the ids")
	f.BoolVar(&whole, "no-trunc", false, "whole ids")
	f.BoolVar(&digests, "digests", false, "also show their digests in registries")
	f.BoolVar(&tree, "tree", false, "each image with all its names and its platform, what it takes on disk, and U if a container uses it")
	f.BoolVarP(&all, "all", "a", false, "changes nothing: gocker always shows all images")
	f.VarP((*list)(&filters), "filter", "f", "`KEY=VALUE`: reference=PATTERN, dangling=true|false, before=IMAGE, since=IMAGE, label=KEY[=VALUE]")
	f.StringVar(&format, "format", "", formatHelp)
	treeAlone(cmd)
	return cmd
}

func treeAlone(cmd *cobra.Command) {
	for _, other := range []string{"quiet", "no-trunc", "digests", "format"} {
		cmd.MarkFlagsMutuallyExclusive("tree", other)
	}
}

// printTree prints as docker does: the names of an image, the last with its figures, and its platform below them.
func printTree(w io.Writer, e *engine.Engine, filters []string) error {
	all, err := e.Look().ImageTree(filters)
	width := len("<untagged>")
	for _, i := range all {
		for _, name := range append(i.Names, "└─ "+i.Platform) {
			width = max(width, utf8.RuneCountInString(name))
		}
	}
	line := func(name, id, disk, content, extra string) {
		fmt.Fprintf(w, "%-*s   %-12s   %10s   %12s   %-5s\n", width, advice.Printable(name), id, disk, content, extra)
	}
	line("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
	for _, i := range all {
		names := i.Names
		if names == nil {
			names = []string{"<untagged>"}
		}
		for _, name := range names[:len(names)-1] {
			fmt.Fprintln(w, advice.Printable(name))
		}
		used := ""
		if i.Used {
			used = "U"
		}
		line(names[len(names)-1], i.ID, shortSize(i.Disk), shortSize(i.Content), used)
		line("└─ "+i.Platform, i.ID, shortSize(i.Disk), shortSize(i.Content), used)
		fmt.Fprintln(w)
	}
	return err
}

func rmiCommand(e *engine.Engine) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rmi [flags] IMAGE…",
		Short: "Remove images",
		Long:  "Remove names of images. An image without a name is removed, with every layer that no other image has. An image that a container uses stays.",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all error
			for _, arg := range args {
				ref, err := pull.ParseReference(arg)
				if err != nil {
					all = errors.Join(all, err)
					continue
				}
				untagged, deleted, err := e.Images().Remove(ref, force)
				for _, name := range untagged {
					fmt.Fprintln(cmd.OutOrStdout(), "Untagged:", name)
				}
				for _, id := range deleted {
					fmt.Fprintln(cmd.OutOrStdout(), "Deleted:", id)
				}
				all = errors.Join(all, err)
			}
			return all
		},
	}
	cmd.Flags().Bool("no-prune", false, "changes nothing: gocker has no images that gocker images does not show")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "an image that you name by its id loses all its names; an image that a container uses loses its name and stays; a missing image is no error")
	return cmd
}

func tagCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME[:TAG]",
		Short: "Give an image one more name",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			refs, err := references(args)
			if err != nil {
				return err
			}
			return e.Images().Tag(refs[0], refs[1])
		},
	}
}

func untagCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "untag IMAGE [NAME[:TAG]…]",
		Short: "Remove all names of an image, or only those NAMEs; the image stays",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			refs, err := references(args)
			if err != nil {
				return err
			}
			if len(refs) == 1 {
				return e.Images().UntagAll(refs[0])
			}
			image, err := e.Images().Open(refs[0])
			if err != nil {
				return err
			}
			var all error
			for _, ref := range refs[1:] {
				named, err := e.Images().Open(ref)
				if err == nil && named.Digest != image.Digest {
					err = fmt.Errorf("%q is no name of %q", ref, refs[0])
				}
				if err == nil {
					err = e.Images().Untag(ref)
				}
				all = errors.Join(all, err)
			}
			return all
		},
	}
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}
