//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"gocker/final/internal/engine"
	"gocker/final/internal/images"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
)

// parts are what a pull's CPU time goes into. Of a sample's functions, from the innermost on, the first that is named here
// decides: what is called inside of a part belongs to it.
var parts = []struct {
	name      string
	functions []string
}{
	{"sha256", []string{"crypto/sha256.", "crypto/internal/fips140/sha256."}},
	{"inflate", []string{"klauspost/", "compress/flate.", "igzip.", "decompress.Reader", "archiver/v3.(*Gz)"}},
	{"chown, chmod, times, xattrs", []string{"untar.(*Writer).setAttributes"}},
	{"create and write files", []string{"untar.(*Writer)"}},
	{"look at layers below, count", []string{"changeset.(*unpacker)", "merged.Stack"}},
	{"tar headers", []string{"archive/tar.", "archiver/v3.(*Tar)"}},
	{"receive, keep the blobs", []string{"net/http.", "net.", "registry.(*download)", "registry.(*Stream)"}},
	{"sync", []string{"unix.Syncfs", "os.(*File).Sync"}},
}

// synced is a line of strace: fsync(3) = 0 <0.000042>, or <... fsync resumed>) = 0 <0.000042>
var synced = regexp.MustCompile(`(?m)sync.* <(\d+\.\d+)>$`)

// breakdown prints what a pull's time goes into. The program calls itself, so that the profile has nothing else in it.
func breakdown(gocker, image, store string) error {
	if err := empty(store); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "-profile", image)
	cmd.Env = append(os.Environ(), "GOCKER_ROOT="+store)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("profile a pull: %w", err)
	}
	if err := empty(store); err != nil {
		return err
	}
	// Waiting for the disk is no CPU time. strace stops for these calls only.
	log := filepath.Join(filepath.Dir(store), "strace")
	cmd = exec.Command("strace", "-f", "--seccomp-bpf", "-T", "-e", "trace=syncfs,fsync,fdatasync", "-o", log, gocker, "pull", "-q", image)
	cmd.Env = append(os.Environ(), "GOCKER_ROOT="+store)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("strace: %w: %s", err, out)
	}
	raw, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	var waited time.Duration
	for _, call := range synced.FindAllSubmatch(raw, -1) {
		d, err := time.ParseDuration(string(call[1]) + "s")
		if err != nil {
			return fmt.Errorf("read strace's %q: %w", call[0], err)
		}
		waited += d
	}
	fmt.Printf("  %6.2f s  waiting for the disk to have it all (wall)\n\n", waited.Seconds())
	return empty(store)
}

// profilePull pulls and prints the table.
func profilePull(image string) error {
	ref, err := pull.ParseReference(image)
	if err != nil {
		return err
	}
	var raw bytes.Buffer
	if err := pprof.StartCPUProfile(&raw); err != nil {
		return err
	}
	_, err = engine.Engine{Dirs: dirs.Default()}.Images().Pull(context.Background(), ref, images.PullOptions{})
	pprof.StopCPUProfile()
	if err != nil {
		return err
	}
	p, err := profile.Parse(&raw)
	if err != nil {
		return err
	}
	spent := make([]int64, len(parts)+1) // nanoseconds; the last is all the rest
	for _, sample := range p.Sample {
		spent[partOf(sample)] += sample.Value[1]
	}
	var children unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &children); err != nil {
		return err
	}
	fmt.Println("  gocker's CPU time goes into")
	if igzip := time.Duration(children.Utime.Nano() + children.Stime.Nano()); igzip > 0 {
		fmt.Printf("  %6.2f s  inflate, by igzip\n", igzip.Seconds())
	}
	for i, ns := range spent {
		name := "the rest: the scheduler, garbage"
		if i < len(parts) {
			name = parts[i].name
		}
		fmt.Printf("  %6.2f s  %s\n", time.Duration(ns).Seconds(), name)
	}
	return nil
}

func partOf(sample *profile.Sample) int {
	for _, location := range sample.Location {
		for _, line := range location.Line {
			for i, part := range parts {
				for _, function := range part.functions {
					if strings.Contains(line.Function.Name, function) {
						return i
					}
				}
			}
		}
	}
	return len(parts)
}
