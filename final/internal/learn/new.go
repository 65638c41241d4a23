//go:build linux

package learn

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"gocker/step01-pull/shared/advice"
)

// skeleton is a learner's program at the beginning. A file of this name with .txt behind it is none of this module.
//
//go:embed skeleton
var skeleton embed.FS

// ErrNotEmpty says that a folder is somebody's already.
var ErrNotEmpty = errors.New("the folder is not empty")

// New writes a Go module into a folder, which is not there, or empty: a program with a file for each step, in which all is missing.
// After an error nothing is there.
func New(dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write a module into %q: %w", dir, err)
		}
	}()
	if err := isBuilt(dir); err != nil {
		return err
	}
	files, err := fs.Glob(skeleton, "skeleton/*")
	if err != nil {
		return err
	}
	var made []string // the folder before its files
	defer func() {
		for i := len(made) - 1; i >= 0 && err != nil; i-- {
			os.Remove(made[i]) // the first error is told
		}
	}()
	entries, err := os.ReadDir(dir)
	switch {
	case len(entries) > 0:
		return advice.Add(ErrNotEmpty, "%s", say("choose the name of a new folder"))
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(dir, 0o777); err != nil {
			return err
		}
		made = append(made, dir)
	case err != nil:
		return err
	}
	for _, file := range files {
		content, err := skeleton.ReadFile(file)
		if err != nil {
			return err
		}
		name := filepath.Join(dir, strings.TrimSuffix(path.Base(file), ".txt"))
		made = append(made, name)
		if err := os.WriteFile(name, translateComments(content), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// A comment of code, to the end of its line.
var comment = regexp.MustCompile(`// (.+)`)

func translateComments(code []byte) []byte {
	words := readWords(language())
	return comment.ReplaceAllFunc(code, func(english []byte) []byte {
		if translated := words[string(english[3:])]; translated != "" {
			return []byte("// " + translated)
		}
		return english
	})
}

// Made says what New has made, and what to type next.
func Made(dir string) string {
	return say("%s has a program with a file for each step", dir) + "\n" +
		say("next: %s", fmt.Sprintf("cd %s && go build -o P . && gocker learn check 1 ./P", dir)) + "\n"
}

// isBuilt is an error if the go command would not build a module in this folder: with a go.work above, it builds those in there.
func isBuilt(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for above := dir; above != "/"; above = filepath.Dir(above) {
		work := filepath.Join(above, "go.work")
		if _, err := os.Lstat(work); err == nil {
			return advice.Add(errors.New(say("there is %s, so Go builds only the modules that are named in it", work)), "%s", say("choose a folder that is not below %s", above))
		}
	}
	return nil
}
