//go:build linux

// Package whynot finds out why a command did not start, or ended as if it had not.
package whynot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// Started finds the reason why process was not executed; err is that of its child. It is called on a thread that is in the
// container, and that has nothing else to do there any more.
func Started(process *specs.Process, err error) error {
	var failed birth.Failed
	if !errors.As(err, &failed) || failed.Number != unix.SYS_EXECVE {
		return err
	}
	return notExecuted(process, failed.What, failed.Errno)
}

// notExecuted finds the reason why none of the candidates was executed; errno is what execve(2) said of tried.
func notExecuted(process *specs.Process, tried string, errno syscall.Errno) error {
	kind, says := namespaces.ErrNotExecutable, errno.Error()+": "
	if errno == unix.ENOENT || errno == unix.ENOTDIR {
		// If one of them is there after all, then what is missing is something that it needs.
		here := slices.IndexFunc(birth.Candidates(process.Args[0], process.Env), func(path string) bool {
			_, err := os.Lstat(path)
			return err == nil
		})
		if here < 0 {
			return NotFound(process)
		}
		kind, says, tried = namespaces.ErrNotFound, "", birth.Candidates(process.Args[0], process.Env)[here]
	}
	f := faultOf(process, errno)
	if f.reason == "" {
		f = examination{errno, process.User}.file(tried, 0)
	}
	if f.reason == "" && errno == unix.EPERM {
		f = capabilitiesOf(tried, process)
	}
	if f.reason == "" {
		f = fault{"nothing is wrong with the file", "a security module of this machine, as AppArmor or SELinux, may forbid it: look at dmesg"}
	}
	return advice.Add(fmt.Errorf("%w: %q: %s%s", kind, tried, says, f.reason), "%s", f.todo)
}

// FirstLine is that of the script that process executed, without its newline, and "" if it was none. It is called on a
// thread that is in the container.
func FirstLine(process *specs.Process) string {
	for _, path := range birth.Candidates(process.Args[0], process.Env) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(process.Cwd, path)
		}
		file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // does not block, should it be a fifo by now
		if err != nil {
			continue
		}
		defer file.Close()
		head := make([]byte, 256)
		n, _ := io.ReadFull(file, head)
		line, _, _ := bytes.Cut(head[:n], []byte("\n"))
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && bytes.HasPrefix(line, []byte("#!")) {
			return string(line)
		}
		break
	}
	return ""
}

// faultOf is what can be wrong while the file is right.
func faultOf(process *specs.Process, errno syscall.Errno) fault {
	switch errno {
	case unix.E2BIG: // see execve(2), "Limits on size of arguments and environment"
		total, longest := 0, 0
		for _, s := range slices.Concat(process.Args, process.Env) {
			total, longest = total+len(s)+1, max(longest, len(s)+1)
		}
		return fault{
			fmt.Sprintf("its arguments and environment are %d bytes, the longest of them %d", total, longest),
			"one may have 131072 bytes (128 KiB), all together a quarter of the stack's limit (--ulimit stack=…), and at most 6 MiB: put it in a file",
		}
	case unix.ETXTBSY:
		return fault{"another process has it open for writing", "close it there, or write it under another name and rename that"}
	case unix.ENOMEM:
		return fault{"there is no memory to load it", "give the container more (--memory), or the machine"}
	}
	return fault{}
}

// NotFound is the error for a command of which there is no file, with what comes nearest to it. It is called on a thread
// that is in the container.
func NotFound(process *specs.Process) error {
	command, path := process.Args[0], birth.SearchPath(process.Env)
	err := fmt.Errorf("%w: %q", namespaces.ErrNotFound, command)
	folder, base := filepath.Split(command)
	if folder == "" {
		if command != "" {
			err = fmt.Errorf("%w in PATH %q", err, path)
		}
	} else if !filepath.IsAbs(command) {
		err = fmt.Errorf("%w in the working folder %q", err, process.Cwd)
	}
	for at := filepath.Clean(folder); folder != "" && at != "/" && at != "."; at = filepath.Dir(at) {
		if info, statErr := os.Stat(at); statErr == nil {
			if !info.IsDir() {
				err = fmt.Errorf("%w: %q is no folder", err, at)
			}
			break
		}
		if _, statErr := os.Stat(filepath.Dir(at)); statErr == nil {
			err = fmt.Errorf("%w: there is no folder %q", err, at)
		}
	}
	if todo := nearest(base, command, path); todo != "" {
		return advice.Add(err, "%s", todo)
	}
	return err
}

// builtins are commands that only shells have.
var builtins = strings.Fields(". : alias bg cd command eval exec exit export fg jobs read return set shift source trap type ulimit umask unalias unset wait")

// nearest tells what its reader may have meant.
func nearest(base, command, path string) (todo string) {
	programs := programsIn(path)
	first, _, several := strings.Cut(command, " ")
	switch {
	case command == "":
		return "the command is an empty word: is a variable in it not set?"
	case strings.HasPrefix(command, "-"):
		return "the words after the image are the command: write flags of gocker before the image"
	case several && (programs[first] != "" || strings.Contains(first, "/")):
		return fmt.Sprintf("it is one word with blanks in it: leave the quotes out, or let a shell split it: sh -c %q", command)
	case slices.Contains(builtins, command) && programs["sh"] != "":
		return fmt.Sprintf("it is a part of shells, not a program: sh -c %q", command+" …")
	}
	if found := programsNamed(base); len(found) > 0 {
		return fmt.Sprintf("the image has %s: name it so, or add its folder to PATH (--env PATH=…)", quoted(found))
	}
	var like []string
	for name, file := range programs {
		if strings.EqualFold(base, name) || len(base) > 2 && oneSlip(base, name) {
			like = append(like, file)
		}
	}
	if len(like) > 0 {
		slices.Sort(like)
		return "the image has " + quoted(like)
	}
	for _, shell := range []string{"sh", "bash", "dash", "ash", "busybox"} {
		if programs[shell] != "" {
			return "" // so one can look around; else it is good to know that one cannot
		}
	}
	if len(programs) == 0 {
		return "the image has no shell, and no program at all in PATH"
	}
	var all []string
	for _, file := range programs {
		all = append(all, file)
	}
	slices.Sort(all)
	return "the image has no shell; its PATH has " + quoted(all)
}

// programsIn are the files in the folders of PATH that can be executed, by their names.
func programsIn(path string) map[string]string {
	programs := map[string]string{}
	for _, dir := range filepath.SplitList(path) {
		entries, _ := os.ReadDir(dir) // of what is not there, nothing
		for _, entry := range entries {
			file := filepath.Join(dir, entry.Name())
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && programs[entry.Name()] == "" {
				programs[entry.Name()] = file
			}
		}
	}
	return programs
}

// mostLooked is how many files programsNamed looks at: an image may have millions.
const mostLooked = 100_000

// programsNamed finds programs of that name anywhere in the image, but not in what is mounted in it.
func programsNamed(name string) (found []string) {
	device := func(info os.FileInfo, err error) uint64 {
		if err != nil {
			return 0
		}
		return info.Sys().(*syscall.Stat_t).Dev
	}
	root, looked := device(os.Stat("/")), 0
	filepath.WalkDir("/", func(path string, entry os.DirEntry, err error) error {
		if looked++; looked > mostLooked || len(found) == 3 {
			return filepath.SkipAll
		}
		if err != nil {
			return nil // a folder that cannot be read has nothing to tell
		}
		if entry.IsDir() && device(entry.Info()) != root {
			return filepath.SkipDir
		}
		if entry.Name() == name && !entry.IsDir() {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				found = append(found, path)
			}
		}
		return nil
	})
	return found
}

// quoted is a list for people, and not a long one.
func quoted(files []string) string {
	var list []string
	for _, file := range files[:min(len(files), 5)] {
		list = append(list, fmt.Sprintf("%q", file))
	}
	if len(files) > 5 {
		list = append(list, fmt.Sprintf("and %d more", len(files)-5))
	}
	return strings.Join(list, ", ")
}

// oneSlip tells whether a and b are a slip of the finger apart: a letter too many, another one, or two in the wrong order.
func oneSlip(a, b string) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
