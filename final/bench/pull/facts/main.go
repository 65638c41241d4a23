//go:build linux

// Command facts prints all that can be known of a tree of files, a line a file, to compare it with another by diff(1):
//
//	go run ./final/bench/pull/facts FOLDER
//	go run ./final/bench/pull/facts -image NAME
//
// The second mounts an image that gocker has, as for a container, and looks at that.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/tree"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
	"gocker/step04-overlay/overlay"
)

func main() {
	image := flag.String("image", "", "`name` of an image that gocker has")
	flag.Parse()
	err := errors.New("want a folder or -image")
	switch {
	case *image != "":
		err = printImage(*image)
	case flag.NArg() == 1:
		err = printFolder(flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "facts:", err)
		os.Exit(1)
	}
}

func printImage(name string) (err error) {
	d := dirs.Default()
	ref, err := pull.ParseReference(name)
	if err != nil {
		return err
	}
	id, err := local.Lookup(d, ref)
	if err != nil {
		return err
	}
	img, err := layers.Open(d, id)
	if err != nil {
		return err
	}
	f, err := overlay.Create(d, img)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Remove()) }()
	if err := f.Mount(); err != nil {
		return err
	}
	return printFolder(f.Mnt())
}

func printFolder(root string) error {
	facts, err := tree.ReadFacts(root)
	if err != nil {
		return err
	}
	lines := map[string]string{}
	for _, fact := range slices.SortedFunc(maps.Keys(facts), func(a, b tree.Fact) int { return cmp.Compare(a.What, b.What) }) {
		if facts[fact] != "" {
			lines[fact.Name] += fmt.Sprintf(" %s: %s,", fact.What, facts[fact])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		fmt.Printf("%q%s\n", name, lines[name])
	}
	return nil
}
