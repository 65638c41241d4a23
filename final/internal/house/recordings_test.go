//go:build linux

package house

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// docs/recordings/record makes a recording of each step and a still of it, and the step's pages show the still.
func TestEveryStepHasARecordingAndAStillOfIt(t *testing.T) {
	for _, main := range files(t, "main.go") {
		step := filepath.Dir(main)
		if !strings.HasPrefix(step, "step") || strings.Contains(step, "/") {
			continue
		}
		screen := played(t, filepath.Join(root, "docs/recordings", step+".cast"))
		if want := "$ go run ./" + step; screen[0] != want {
			t.Errorf("%s.cast begins with %q, want %q", step, screen[0], want)
		}
		still := drawn(t, filepath.Join(root, "docs/recordings", step+".svg"))
		if !slices.Equal(still, screen[:min(len(screen), len(still))]) {
			t.Errorf("%s.svg does not show what %s.cast plays:\n%s\n--- want:\n%s", step, step, strings.Join(still, "\n"), strings.Join(screen, "\n"))
		}
	}
}

// played returns the lines that an asciicast (version 2) leaves on its screen, cut at the screen's width. It wants its times
// in order.
func played(t *testing.T, file string) []string {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := json.NewDecoder(f)
	var header struct{ Version, Width, Height int }
	if err := lines.Decode(&header); err != nil || header.Version != 2 || header.Width == 0 || header.Height == 0 {
		t.Fatalf("%s: header %+v, %v", file, header, err)
	}
	var screen strings.Builder
	for last := 0.0; lines.More(); {
		var event [3]any // seconds since the start, "o" for output, text
		if err := lines.Decode(&event); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		at, isTime := event[0].(float64)
		text, isText := event[2].(string)
		if !isTime || at < last || event[1] != "o" || !isText {
			t.Fatalf("%s: a bad event after second %v: %v", file, last, event)
		}
		last = at
		screen.WriteString(text)
	}
	all := strings.Split(strings.TrimRight(strings.ReplaceAll(screen.String(), "\r", ""), "\n"), "\n")
	for i, line := range all {
		if runes := []rune(line); len(runes) > header.Width {
			all[i] = string(runes[:header.Width])
		}
	}
	return all
}

// drawn returns the lines of text in an SVG; without a last "…", which stands for what has no room.
func drawn(t *testing.T, file string) []string {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var svg struct {
		Lines []string `xml:"g>text"`
	}
	if err := xml.Unmarshal(raw, &svg); err != nil || len(svg.Lines) == 0 {
		t.Fatalf("%s: %d lines, %v", file, len(svg.Lines), err)
	}
	if last := len(svg.Lines) - 1; svg.Lines[last] == "…" {
		svg.Lines = svg.Lines[:last]
	}
	return svg.Lines
}
