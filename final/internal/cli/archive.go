//go:build linux

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gocker/final/internal/engine"
	"gocker/final/internal/images"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
)

func saveCommand(e *engine.Engine) *cobra.Command {
	var output, format string
	cmd := &cobra.Command{
		Use:   "save [flags] IMAGE…",
		Short: "Write images to an archive",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "docker-archive" && format != "oci-archive" {
				return advice.Add(fmt.Errorf("--format %q is no kind of archive", format), "it is docker-archive or oci-archive")
			}
			refs, err := references(args)
			if err != nil {
				return err
			}
			return writeArchive(cmd, output, args[0], func(w io.Writer) error { return e.Images().Save(w, refs, format == "docker-archive") })
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `file`, not to standard output")
	cmd.Flags().StringVar(&format, "format", "docker-archive", "`docker-archive|oci-archive`: the first is also an OCI layout, the second only that")
	return cmd
}

// writeArchive writes to a file, if one is named, or to standard output, if that is no terminal.
func writeArchive(cmd *cobra.Command, file, what string, write func(io.Writer) error) error {
	if file != "" {
		return writeFile(file, write)
	}
	if f, ok := cmd.OutOrStdout().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return advice.Add(errors.New("an archive cannot be shown on a terminal"), "name a file: %s -o FILE %s", cmd.CommandPath(), what)
	}
	return write(cmd.OutOrStdout())
}

// writeFile writes a file that appears whole or not at all. If the name is there and is no file, such as a pipe, it is written to.
func writeFile(name string, write func(io.Writer) error) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o600), renameio.WithExistingPermissions())
	if err != nil {
		return fmt.Errorf("write %q: %w", name, cmp.Or(errors.Unwrap(err), err)) // without the temporary file's name
	}
	defer f.Cleanup()
	if err := write(f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// readArchive reads from a file, or from standard input, which is "-", if that is no terminal. usage is how to name a file.
func readArchive(cmd *cobra.Command, file, usage string, read func(io.Reader) error) error {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		return read(f)
	}
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return advice.Add(errors.New("standard input is a terminal"), "name a file: %s", usage)
	}
	return read(cmd.InOrStdin())
}

func loadCommand(e *engine.Engine) *cobra.Command {
	var input string
	var opts images.LoadOptions
	cmd := &cobra.Command{
		Use:   "load [flags]",
		Short: "Load the images of an archive",
		Long: "Load the images of an archive that docker save, podman save, skopeo copy or gocker save has made: docker's kind or an\n" +
			"OCI layout, compressed or not. With -i it may also be a folder: an OCI layout, or what skopeo copy has made of dir:FOLDER.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible()
			defer stop()
			opts.LeftOut = func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), "Left out:", advice.Printable(what)) }
			opts.Loaded = func(img images.Loaded) {
				warnLeftOut(img.Image)
				for _, name := range img.Names {
					fmt.Fprintln(cmd.OutOrStdout(), "Loaded image:", name)
				}
				if len(img.Names) == 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "Loaded image ID: sha256:%s\n", img.Digest)
				}
			}
			if info, err := os.Stat(input); err == nil && info.IsDir() {
				return e.Images().LoadFolder(ctx, input, opts)
			}
			return readArchive(cmd, cmp.Or(input, "-"), "gocker load -i FILE", func(in io.Reader) error { return e.Images().Load(ctx, in, opts) })
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "read from `file`, or from a folder, not from standard input")
	cmd.Flags().BoolP("quiet", "q", false, "changes nothing: load shows no progress")
	platformFlag(cmd.Flags(), &opts.Platform)
	limitFlags(cmd.Flags(), &opts.Limits)
	return cmd
}

func exportCommand(e *engine.Engine) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [flags] CONTAINER",
		Short: "Write all files of a container to a tar archive",
		Long: "Write all files of a container to a tar archive: those of its image with its changes. Of volumes and other mounts the\n" +
			"archive has only the empty folders. gocker import makes an image of such an archive.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeArchive(cmd, output, args[0], func(w io.Writer) error { return e.Life().Export(args[0], w) })
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `file`, not to standard output")
	return cmd
}

func importCommand(e *engine.Engine) *cobra.Command {
	var opts images.ImportOptions
	cmd := &cobra.Command{
		Use:   "import [flags] FILE|- [NAME[:TAG]]",
		Short: "Make an image of a tar archive with files",
		Long: "Make an image of one layer of a tar archive with files, compressed or not, such as gocker export or docker export writes.\n" +
			"An archive of images is for gocker load.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := references(args[1:])
			if err != nil {
				return err
			}
			if strings.Contains(args[0], "://") {
				return advice.Add(fmt.Errorf("import %q: gocker fetches no addresses", args[0]), "let another program do that: curl %s | gocker import -", args[0])
			}
			opts.From = args[0]
			ctx, stop := interruptible()
			defer stop()
			return readArchive(cmd, args[0], "gocker import FILE", func(in io.Reader) error {
				img, err := e.Images().Import(ctx, in, opts, names...)
				if err != nil {
					return err
				}
				warnLeftOut(img)
				fmt.Fprintln(cmd.OutOrStdout(), "sha256:"+img.Digest)
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.VarP((*list)(&opts.Changes), "change", "c", "make the config with a `line` of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR")
	f.StringVarP(&opts.Message, "message", "m", "", "`text` about the image, which gocker history shows")
	platformFlag(f, &opts.Platform)
	limitFlags(f, &opts.Limits)
	return cmd
}

// references reads the names of images that the user has typed.
func references(args []string) (refs []pull.Reference, err error) {
	for _, arg := range args {
		ref, err := pull.ParseReference(arg)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}
