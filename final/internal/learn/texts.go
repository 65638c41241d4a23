//go:build linux

package learn

import (
	"embed"
	"fmt"
	"os"
	"strings"
)

// Each language has a folder with the same files in it. In a file, "## NAME" begins a text, and the lines after it are "asks:",
// "why:" and "page:". What a case finds is said in English where it is found: see say.
//
//go:embed texts
var files embed.FS

// A text is what is said of a case, or of what any program may do wrong.
type text struct {
	asks string // what a right program does
	why  string // why it does, and what is wrong with another
	page string // the heading of a page in docs/ that explains it
}

type texts map[string]text

// language is that of the user, if there are texts in it: see locale(7).
func language() string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if value := os.Getenv(name); strings.HasPrefix(value, "zh") {
			return "zh"
		} else if value != "" {
			break
		}
	}
	return "en"
}

// readTexts reads the texts of a step, and those for all steps.
func readTexts(language string, step int) (texts, error) {
	all := texts{}
	for _, name := range []string{"all", fmt.Sprintf("step%d", step)} {
		raw, err := files.ReadFile(fmt.Sprintf("texts/%s/%s.txt", language, name))
		if err != nil {
			return nil, err
		}
		var key string
		for line := range strings.Lines(string(raw)) {
			line = strings.TrimSpace(line)
			if name, isName := strings.CutPrefix(line, "## "); isName {
				key = name
				continue
			}
			t := all[key]
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "asks":
				t.asks = value
			case "why":
				t.why = value
			case "page":
				t.page = value
			default:
				continue
			}
			all[key] = t
		}
	}
	return all, nil
}

// say is fmt.Sprintf in the user's language, if words.txt has the format in it.
func say(format string, args ...any) string {
	if translated := readWords(language())[format]; translated != "" {
		format = translated
	}
	return fmt.Sprintf(format, args...)
}

// readWords reads what words.txt has: an English format a line, and below it, after a tab, the translation.
func readWords(language string) map[string]string {
	raw, _ := files.ReadFile("texts/" + language + "/words.txt") // English has none
	words, english := map[string]string{}, ""
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if translated, ok := strings.CutPrefix(line, "\t"); ok {
			words[english] = translated
		} else {
			english = line
		}
	}
	return words
}
