// Step 2: package.tar becomes files, and nothing lands anywhere else.
//
//	go run ./step02-untar [IMAGE]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
	"gocker/step02-untar/untar"
)

func main() { lesson.Main("step02-untar", run) }

func run(ctx context.Context, _ io.Reader, stdout io.Writer, args []string) error {
	var d dirs.Dirs
	flags := lesson.Flags(stdout, &d, "step02-untar [flags] [IMAGE]", "Unpacks the package.tar that step01-pull made.")
	ref, err := lesson.Parse(flags, args)
	if err != nil {
		return err
	}
	image, lock, err := lesson.Package(ctx, d, ref, lesson.Say(stdout))
	if err != nil {
		return err
	}
	defer lock.Close()

	fmt.Fprintf(stdout, "1. Unpacking %s, entry by entry\n", d.PackageTar(image))
	if err := untar.Package(d, image); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "2. Beside it are now the config, the layers and the list of both\n")
	entries, err := os.ReadDir(d.Tmp(image))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "   %s  %8s  %s\n", info.Mode(), units.HumanSize(float64(info.Size())), e.Name())
	}
	manifest, err := os.ReadFile(filepath.Join(d.Tmp(image), "manifest.json"))
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, manifest, "   ", "  "); err != nil {
		return fmt.Errorf("manifest.json: %w", err)
	}
	fmt.Fprintf(stdout, "3. manifest.json says which layer lies on which, the lowest first\n   %s\n", &indented)
	fmt.Fprintf(stdout, "\nnext: go run ./step03-layers %s\n", strings.TrimSuffix(ref.String(), ":latest"))
	return nil
}
