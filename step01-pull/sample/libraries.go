package sample

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// libraries lists the files without which the program at name does not start: its interpreter (the dynamic loader,
// PT_INTERP) and its shared libraries (DT_NEEDED), and theirs, found where the loader looks for them. A file that is
// no ELF program (a script, or any program of another system) needs none. See elf(5) and ld.so(8).
func libraries(name string) ([]string, error) {
	var found []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		f, err := elf.Open(name)
		var noELF *elf.FormatError
		if errors.As(err, &noELF) || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type != elf.PT_INTERP {
				continue
			}
			interp, err := io.ReadAll(p.Open())
			if err != nil {
				return err
			}
			found = append(found, strings.TrimRight(string(interp), "\x00"))
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return err
		}
		for _, lib := range needed {
			if seen[lib] {
				continue
			}
			seen[lib] = true
			file, err := findLibrary(lib, name, f)
			if err != nil {
				return err
			}
			found = append(found, file)
			if err := add(file); err != nil {
				return err
			}
		}
		return nil
	}
	return found, add(name)
}

// findLibrary looks for lib, which the ELF file user at userPath needs, in the loader's order.
func findLibrary(lib, userPath string, user *elf.File) (string, error) {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		paths, err := user.DynString(tag)
		if err != nil {
			return "", err
		}
		for _, p := range paths {
			p = strings.NewReplacer("$ORIGIN", path.Dir(userPath), "${ORIGIN}", path.Dir(userPath)).Replace(p)
			dirs = append(dirs, strings.Split(p, ":")...)
		}
	}
	dirs = append(dirs, confDirs("/etc/ld.so.conf")...)
	dirs = append(dirs, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
	for _, dir := range dirs {
		candidate := path.Join(dir, lib)
		f, err := elf.Open(candidate)
		if err != nil {
			continue
		}
		f.Close()
		if f.Machine == user.Machine && f.Class == user.Class {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("%s, which %q needs, is not in %s", lib, userPath, strings.Join(dirs, ", "))
}

// confDirs reads the folders of an ld.so.conf and of the files that it includes; one that is not there has none.
func confDirs(file string) (dirs []string) {
	conf, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(conf)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if pattern, ok := strings.CutPrefix(line, "include "); ok {
			files, _ := filepath.Glob(strings.TrimSpace(pattern))
			for _, f := range files {
				dirs = append(dirs, confDirs(f)...)
			}
		} else if line != "" {
			dirs = append(dirs, line)
		}
	}
	return dirs
}
