//go:build linux

package learn

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"gocker/step01-pull/shared/dirs"
)

// Pages are the names of the steps: that of the first is in docs/step01-pull.md.
var Pages = []string{"pull", "untar", "layers", "overlay", "namespaces", "cgroups"}

// Keep keeps a report as the last one of its step:
//
//	{root}/learn/step1.json   a Report
func Keep(root string, r Report) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	file := kept(root, r.Step)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(file, raw, 0o644, renameio.WithTempDir(filepath.Dir(file)))
}

func kept(root string, step int) string {
	return filepath.Join(root, "learn", fmt.Sprintf("step%d.json", step))
}

// Progress are the last reports, one for each step. That of a step that was never checked has no Program.
func Progress(root string) (all []Report, err error) {
	for i := range Pages {
		var r Report
		if err := dirs.ReadJSON(kept(root, i+1), &r); err != nil && !dirs.Lost(err) {
			return nil, err
		}
		r.Step = i + 1
		all = append(all, r)
	}
	return all, nil
}

// Next says which command to type after these reports; "" is none.
func Next(all []Report) string {
	if command := next(all); command != "" {
		return say("next: %s", command)
	}
	return ""
}

func next(all []Report) string {
	program := ""
	for _, r := range all {
		if len(r.Program) > 0 {
			program = strings.Join(r.Program, " ")
		}
	}
	for _, r := range all {
		switch {
		case program == "":
			return "gocker learn new DIR"
		case len(r.Program) == 0:
			return fmt.Sprintf("gocker learn check %d %s", r.Step, program)
		case r.Passed+r.Skipped < r.Cases:
			return fmt.Sprintf("gocker learn check %d %s", r.Step, strings.Join(r.Program, " "))
		}
	}
	return ""
}

// Fails is what a right program would have done where this one failed first; "" if nothing failed.
func (r Report) Fails() string {
	for _, result := range r.Results {
		if !result.OK && result.Skipped == "" {
			return result.Asks
		}
	}
	return ""
}
