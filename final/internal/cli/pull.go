//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"gocker/final/internal/engine"
	"gocker/final/internal/images"
	"gocker/final/internal/life"
	"gocker/final/internal/platform"
	"gocker/final/internal/registry"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step03-layers/layers"
)

func pullCommand(e *engine.Engine) *cobra.Command {
	var opts images.PullOptions
	var quiet, all, tags bool
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE…",
		Short: "Fetch images from their registries",
		Long:  "Fetch images from their registries. The image \"sample\" needs no network: it is made of this machine's own programs.",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if all {
				return exit{exitGocker, advice.Add(errors.New("--all-platforms: an image here is one root file system, and that is for one platform"),
					"choose one: --platform linux/arm64")}
			}
			ctx, stop := interruptible()
			defer stop()
			return eachDo(args, func(arg string) error {
				ref, err := pull.ParseReference(arg)
				if err == nil && tags {
					return pullTags(ctx, cmd.OutOrStdout(), e, arg, ref, quiet, opts)
				}
				if err == nil {
					err = pullOne(ctx, cmd.OutOrStdout(), e, ref, quiet, opts)
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	platformFlag(f, &opts.Platform)
	f.BoolVarP(&tags, "all-tags", "a", false, "pull all images of a repository")
	f.BoolVar(&all, "all-platforms", false, "")
	f.MarkHidden("all-platforms")
	limitFlags(f, &opts.Limits)
	f.BoolVarP(&quiet, "quiet", "q", false, "print only the image's name")
	f.Var((*list)(&opts.Mirrors), "mirror", "ask this `registry` first, instead of docker.io; or, instead of another registry: registry=host")
	registryFlags(f, &opts.Options)
	return cmd
}

// pullTags pulls all that a repository has.
func pullTags(ctx context.Context, stdout io.Writer, e *engine.Engine, arg string, ref pull.Reference, quiet bool, opts images.PullOptions) error {
	if err := noTag(arg, ref); err != nil {
		return err
	}
	all, err := opts.Tags(ctx, ref)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("pull %q: %w: it has no tags", arg, pull.ErrNotFound)
	}
	return eachDo(all, func(tag string) error {
		ref, err := pull.ParseReference(ref.Name + ":" + tag)
		if err == nil {
			err = pullOne(ctx, stdout, e, ref, quiet, opts)
		}
		return err
	})
}

// noTag fails for a name with a tag or a digest: with --all-tags it is to be a repository's.
func noTag(arg string, ref pull.Reference) error {
	if strings.HasSuffix(arg, ":"+ref.Tag) || strings.HasSuffix(arg, "@"+ref.Tag) {
		return advice.Add(fmt.Errorf("%q has a tag, and --all-tags is for all of them", arg), "name the repository: %s", ref.Name)
	}
	return nil
}

func pullOne(ctx context.Context, stdout io.Writer, e *engine.Engine, ref pull.Reference, quiet bool, opts images.PullOptions) error {
	out := stdout
	if quiet {
		out = io.Discard
	}
	var end func(images.Pulled, error)
	opts.Progress, end = watchPull(out, ref)
	img, err := e.Images().Pull(ctx, ref, opts)
	end(img, err)
	if err != nil {
		return err
	}
	warnLeftOut(img.Image)
	fmt.Fprintln(stdout, images.FullName(ref))
	return nil
}

// watchPull shows what a pull does, and at its end what came of it.
func watchPull(out io.Writer, ref pull.Reference) (progress func(layer v1.Descriptor, done int64), end func(images.Pulled, error)) {
	fmt.Fprintf(out, "%s: Pulling from %s\n", ref.Tag, ref.Name)
	show := newBars(out, "Pull complete", "Already exists")
	return show.progress, func(img images.Pulled, err error) {
		show.end()
		if err != nil {
			return
		}
		status := "Image is up to date for"
		if img.New {
			status = "Downloaded newer image for"
		}
		fmt.Fprintf(out, "Digest: %s\nStatus: %s %s\n", img.Origin.Digest, status, ref)
	}
}

// watched is a Life that shows pulls on standard error. It does not show that of the sample, which takes only a moment.
func watched(e *engine.Engine, quiet bool) life.Life {
	l := e.Life()
	l.Images.Watch = func(ref pull.Reference) (func(v1.Descriptor, int64), func(images.Pulled, error)) {
		if quiet || ref.IsSample() {
			return nil, func(images.Pulled, error) {}
		}
		return watchPull(os.Stderr, ref)
	}
	return l
}

// warnLeftOut warns of what is missing in the layers that have come.
func warnLeftOut(img layers.Image) {
	for _, line := range images.LeftOut(img) {
		fmt.Fprintln(os.Stderr, "Warning:", advice.Printable(line))
	}
}

// platformFlag is that of all commands that choose one of several images.
func platformFlag(f *pflag.FlagSet, chosen **v1.Platform) {
	f.Func("platform", "`os/arch[/variant]`, if a name stands for several images (default: this machine's)", func(s string) error {
		p, err := platform.Parse(s)
		*chosen = &p
		return err
	})
}

// limitFlags are those of all commands that unpack what others have made.
func limitFlags(f *pflag.FlagSet, limits *budget.Limits) {
	f.Var(byteSize{&limits.Bytes}, "max-size", "largest size of the unpacked image in `bytes`: 500m, 80g (default: 64g, and 100 times the bytes that are sent)")
	f.Int64Var(&limits.Entries, "max-entries", 0, "largest `number` of files and folders (default: a million)")
}

// byteSize is a flag of a number of bytes with a unit.
type byteSize struct{ bytes *int64 }

func (b byteSize) String() string { return "" }
func (b byteSize) Type() string   { return "bytes" }

func (b byteSize) Set(s string) (err error) {
	if *b.bytes, err = units.RAMInBytes(s); err == nil && *b.bytes <= 0 {
		err = errors.New("want a number above 0")
	}
	return err
}

// registryFlags are those of all commands that speak with a registry.
func registryFlags(f *pflag.FlagSet, opts *registry.Options) {
	f.BoolVar(&opts.Insecure, "insecure", false, "allow plain http, and certificates that cannot be verified")
	f.BoolFunc("tls-verify", "podman's flag: =false means --insecure", func(value string) error {
		verify, err := strconv.ParseBool(value)
		opts.Insecure = !verify
		return err
	})
	f.BoolVar(&opts.AllowPrivate, "allow-private", false, "let a registry send gocker to other hosts in private networks, for layers or a token")
	f.StringVar(&opts.CertDir, "cert-dir", "", "`folder` with certificates: *.crt are trusted, *.cert and *.key are shown to the registry (default: /etc/docker/certs.d/HOST)")
}

// interruptible is done when somebody wants this program to end.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

// bars show how layers come in: as bars on a terminal, elsewhere as a line for each layer that is done.
type bars struct {
	out            io.Writer
	complete, kept string
	screen         *mpb.Progress // nil where there is no terminal

	mu   sync.Mutex
	bars map[v1.Hash]*mpb.Bar
	said map[v1.Hash]bool
}

func newBars(out io.Writer, complete, kept string) *bars {
	b := &bars{out: out, complete: complete, kept: kept, bars: map[v1.Hash]*mpb.Bar{}, said: map[v1.Hash]bool{}}
	if f, ok := out.(*os.File); ok {
		// A terminal that nobody has told its size has no room for bars.
		if _, height, err := term.GetSize(int(f.Fd())); err == nil && height > 0 {
			b.screen = mpb.New(mpb.WithOutput(out), mpb.WithWidth(60))
		}
	}
	return b
}

func (b *bars) progress(layer v1.Descriptor, done int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := dirs.Short(layer.Digest.Hex)
	if b.screen == nil || done == images.Kept {
		if text := map[bool]string{true: b.kept, false: b.complete}[done == images.Kept]; !b.said[layer.Digest] && (done == images.Kept || done == layer.Size) {
			b.said[layer.Digest] = true
			if b.screen != nil {
				fmt.Fprintf(b.screen, "%s: %s\n", id, text)
			} else {
				fmt.Fprintf(b.out, "%s: %s\n", id, text)
			}
		}
		return
	}
	bar, ok := b.bars[layer.Digest]
	if !ok {
		bar = b.screen.AddBar(layer.Size,
			mpb.PrependDecorators(decor.Name(id+": ")),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.OnComplete(decor.Name(""), " "+b.complete)))
		b.bars[layer.Digest] = bar
	}
	bar.SetCurrent(done)
}

// end leaves the bars as they are.
func (b *bars) end() {
	if b.screen == nil {
		return
	}
	for _, bar := range b.bars {
		bar.Abort(false) // one that is full stays so
	}
	b.screen.Wait()
}
