//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
)

func TestEachCommandHasAPageThatManRendersWithoutComplaint(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "man1")
	if err := write(folder, "1.2.3", "2026-11-27"); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(folder, "*.1"))
	if err != nil || len(pages) < 60 {
		t.Fatalf("there are %d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		sections := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"}
		if filepath.Base(page) == "gocker.1" {
			sections = append(sections, "COMMANDS", "OPTIONS", "FILES", "ENVIRONMENT")
		}
		for _, section := range sections {
			if !strings.Contains(string(text), "\n.SH "+section+"\n") {
				t.Errorf("%s has no %s", page, section)
			}
		}
		// SEE ALSO leads somewhere.
		_, others, _ := strings.Cut(string(text), ".SH SEE ALSO\n")
		for line := range strings.Lines(others) {
			if !strings.Contains(line, "gocker") { // the kernel's, for example
				continue
			}
			other := strings.ReplaceAll(strings.Fields(line)[1], `\-`, "-")
			if _, err := os.Stat(filepath.Join(folder, other+".1")); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	if link, err := os.Readlink(filepath.Join(folder, "gocker-container-run.1")); link != "gocker-run.1" {
		t.Errorf("gocker-container-run.1 leads to %q, %v, want gocker-run.1", link, err)
	}
	testenv.Needs(t, "mandoc")
	if out, err := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}
