//go:build linux

package whynot_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	gocker "gocker/final/internal/runtime"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

// A planted fault is a command that cannot start, and what its error and its advice must name.
type planted struct {
	name    string
	plant   func(t *testing.T, root string)
	command string
	change  func(*specs.Spec)
	inside  func(t *testing.T, root string) // plants what is in a mount of the container
	want    error
	says    string   // in the error, with the file
	advises []string // all of them in the advice
}

var notFound, notExecutable = namespaces.ErrNotFound, namespaces.ErrNotExecutable

// file plants one in the container. Its mode is 0755, unless it says another.
func file(name, content string, mode ...os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		t.Helper()
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, mode := range mode {
			if err := os.Chmod(at, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func all(plants ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		for _, plant := range plants {
			plant(t, root)
		}
	}
}

func link(name, to string) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func folder(name string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// program is a file in ELF for a machine, with a loader if that is not empty, and nothing to execute.
func program(machine elf.Machine, typ elf.Type, loader string) string {
	class, data, order := elf.ELFCLASS64, elf.ELFDATA2LSB, binary.ByteOrder(binary.LittleEndian)
	if machine == elf.EM_S390 {
		data, order = elf.ELFDATA2MSB, binary.BigEndian
	}
	header := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(class), byte(data), byte(elf.EV_CURRENT)},
		Type:  uint16(typ), Machine: uint16(machine), Version: 1, Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: 1,
	}
	segment := elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 64 + 56, Filesz: uint64(len(loader) + 1), Memsz: uint64(len(loader) + 1)}
	if loader == "" {
		segment = elf.Prog64{Type: uint32(elf.PT_NOTE)}
	}
	var out bytes.Buffer
	binary.Write(&out, order, header)
	binary.Write(&out, order, segment)
	return out.String() + loader + "\x00"
}

// here is the machine that runs the tests, and there is another one.
func here() (here, there elf.Machine) {
	if runtime.GOARCH == "arm64" {
		return elf.EM_AARCH64, elf.EM_X86_64
	}
	return elf.EM_X86_64, elf.EM_AARCH64
}

func user(uid uint32) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Process.User = specs.User{UID: uid, GID: uid} }
}

func arguments(args ...string) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Process.Args = append(s.Process.Args, args...) }
}

func path(value string) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Process.Env = []string{"PATH=" + value} }
}

// checkPlanted plants each fault in a container of its own, and tries to start its command.
func checkPlanted(t *testing.T, faults []planted) {
	testenv.NeedRoot(t)
	d, img := testroot.Sample(t)
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			f := testroot.MountImage(t, d, img)
			if tt.plant != nil {
				tt.plant(t, f.Mnt())
			}
			spec := namespaces.Spec(f.Mnt(), "x", []string{tt.command})
			if tt.change != nil {
				tt.change(spec)
			}
			p, err := gocker.Create(f, spec, terminal.New(spec.Process, terminal.Stdio{}), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Remove()
			if tt.inside != nil {
				tt.inside(t, fmt.Sprintf("/proc/%d/root", p.Pid))
			}
			status, err := p.Run()
			if err == nil {
				t.Fatalf("Run(%q) ended with status %d, want %v", tt.command, status, tt.want)
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.command) {
				t.Errorf("Run(%q) = %v\nwant %v with %q", tt.command, err, tt.want, tt.says)
			}
			for _, part := range tt.advises {
				if got := advice.Of(err); !strings.Contains(got, part) {
					t.Errorf("Run(%q) advises %q, want %q in it", tt.command, got, part)
				}
			}
		})
	}
}

func TestMain(m *testing.M) { os.Exit(testroot.Run(m)) }

func TestCommandThatIsNotFound(t *testing.T) {
	noShell := func(t *testing.T, root string) {
		for _, program := range []string{"sh", "bash", "dash", "ash", "busybox"} {
			for _, dir := range []string{"bin", "usr/bin"} {
				os.Remove(filepath.Join(root, dir, program)) // where it is
			}
		}
	}
	checkPlanted(t, []planted{
		{name: "there is nothing like it", command: "no-such-command", want: notFound, says: `"no-such-command" in PATH "/usr/local/sbin:`},
		{name: "the empty command", command: "", want: notFound, advises: []string{"is a variable in it not set?"}},
		{name: "it is not in PATH", plant: file("opt/tool/bin/tool", "#!/bin/sh\n"), command: "tool", want: notFound, advises: []string{`the image has "/opt/tool/bin/tool"`, "PATH"}},
		{name: "another PATH than the image's", change: path("/nowhere"), command: "ls", want: notFound, says: `in PATH "/nowhere"`, advises: []string{`bin/ls"`}},
		{name: "no PATH", change: path(""), command: "ls", want: notFound, says: `in PATH ""`, advises: []string{`bin/ls"`}},
		{name: "another folder", command: "/opt/cat", want: notFound, says: `there is no folder`, advises: []string{`bin/cat"`}},
		{name: "a folder that is missing", command: "/srv/app/run/it", want: notFound, says: `there is no folder "/srv/app"`},
		{name: "a folder that is a file", command: "/etc/passwd/x", want: notFound, says: `"/etc/passwd" is no folder`},
		{name: "a slip of the finger", command: "slepe", want: notFound, advises: []string{`bin/sleep"`}},
		{name: "another case", command: "LS", want: notFound, advises: []string{`bin/ls"`}},
		{name: "a version in the name", plant: file("usr/bin/python3", "#!/bin/sh\n"), command: "python", want: notFound, advises: []string{`"/usr/bin/python3"`}},
		{name: "a line in one word", command: "echo hello", want: notFound, advises: []string{"one word with blanks", `sh -c "echo hello"`}},
		{name: "what only shells have", command: "cd", want: notFound, advises: []string{`sh -c "cd …"`}},
		{name: "a flag behind the image", command: "--rm", want: notFound, advises: []string{"write flags of gocker before the image"}},
		{name: "a name of the working folder", change: func(s *specs.Spec) { s.Process.Cwd = "/srv" }, command: "./tool", want: notFound, says: `in the working folder "/srv"`},
		{name: "an image without a shell", plant: noShell, command: "sh", want: notFound, advises: []string{"the image has no shell", "/usr/bin/cat"}},
		{name: "an image with nothing in PATH", plant: noShell, change: path("/srv"), command: "bash", want: notFound, advises: []string{"no shell, and no program at all"}},
		{name: "a link that leads nowhere", plant: link("usr/bin/tool", "/opt/tool-1.2"), command: "tool", want: notFound, says: `symbolic link to "/opt/tool-1.2"`},
	})
}

func TestFileThatMayNotBeExecuted(t *testing.T) {
	const script = "#!/bin/sh\n"
	checkPlanted(t, []planted{
		{name: "no x", plant: file("app", script, 0o644), command: "/app", want: notExecutable, says: "permission denied: the file, mode 0644 of 0:0, has no x for anybody", advises: []string{`chmod a+x "/app"`}},
		{name: "no x, in PATH", plant: file("usr/local/bin/app", script, 0o600), command: "app", want: notExecutable, says: "mode 0600"},
		{name: "no x for this user", plant: file("app", script, 0o744), change: user(1000), command: "/app", want: notExecutable, says: "mode 0744 of 0:0, has no x for user 1000"},
		{name: "no x for the owner, who the user is", plant: all(file("app", script, 0o611), func(t *testing.T, root string) {
			if err := os.Chown(filepath.Join(root, "app"), 1000, 0); err != nil {
				t.Fatal(err)
			}
		}), change: user(1000), command: "/app", want: notExecutable, says: "mode 0611 of 1000:0"},
		{name: "a closed folder", plant: all(folder("home/app", 0o700), file("home/app/run", script)), change: user(1000), command: "/home/app/run", want: notExecutable, says: `the folder "/home/app", mode 0700 of 0:0, is closed to user 1000`, advises: []string{`chmod a+x "/home/app"`, "--user"}},
		{name: "a closed folder behind a link", plant: all(folder("home/app", 0o700), file("home/app/run", script), link("app", "home/app/run")), change: user(1000), command: "/app", want: notExecutable, says: `the folder "/home/app"`},
		{name: "a folder", command: "/etc", want: notExecutable, says: `it is a directory`},
		{name: "a fifo", plant: func(t *testing.T, root string) {
			if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, command: "/fifo", want: notExecutable, says: "it is a fifo"},
		{name: "a socket", plant: func(t *testing.T, root string) {
			wd, err := os.Open(root) // a socket's name is short
			if err != nil {
				t.Fatal(err)
			}
			defer wd.Close()
			l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/socket", wd.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, command: "/socket", want: notExecutable, says: "it is a socket"},
		{name: "a device", command: "/dev/null", want: notExecutable, says: "it is a device"},
		{name: "a mount with noexec", inside: file("dev/shm/app", script), command: "/dev/shm/app", want: notExecutable, says: `it is on "/dev/shm", which is mounted noexec`, advises: []string{"option exec"}},
		{name: "a folder in a mount with noexec", inside: file("dev/shm/a/b/app", script), command: "/dev/shm/a/b/app", want: notExecutable, says: `it is on "/dev/shm", which`},
		{name: "an interpreter in a mount with noexec", plant: file("app", "#!/dev/shm/sh\n"), inside: file("dev/shm/sh", "x"), command: "/app", want: notExecutable, says: `names the interpreter "/dev/shm/sh": it is on "/dev/shm"`},
		{name: "too many interpreters", plant: func(t *testing.T, root string) {
			for i := range 8 {
				file(fmt.Sprintf("app%d", i), fmt.Sprintf("#!/app%d\n", i+1))(t, root)
			}
		}, command: "/app0", want: notExecutable, says: "one interpreter of an interpreter too many"},
		{name: "an interpreter without x", plant: all(file("opt/interpreter", "x", 0o644), file("app", "#!/opt/interpreter\n")), command: "/app", want: notExecutable, says: `names the interpreter "/opt/interpreter": the file, mode 0644`},
		{name: "an interpreter that is a folder", plant: file("app", "#!/etc\n"), command: "/app", want: notExecutable, says: `names the interpreter "/etc": it is a directory`},
		{name: "links in a circle", plant: all(link("a", "b"), link("b", "a")), command: "/a", want: notExecutable, says: "lead in a circle"},
		{name: "arguments without end", change: arguments(strings.Repeat("x", 200_000)), command: "ls", want: notExecutable, says: "the longest of them 200001", advises: []string{"128 KiB"}},
		{name: "a file that is being written", plant: func(t *testing.T, root string) {
			file("app", program(elf.EM_X86_64, elf.ET_EXEC, ""))(t, root)
			f, err := os.OpenFile(filepath.Join(root, "app"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
		}, command: "/app", want: notExecutable, says: "another process has it open for writing"},
		{name: "more file capabilities than the container has", plant: func(t *testing.T, root string) {
			ping := filepath.Join(root, "usr/bin/ls")
			// cap_net_raw+ep, version 2: see linux/capability.h
			value := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			if err := unix.Setxattr(ping, "security.capability", value, 0); err != nil {
				t.Fatal(err)
			}
		}, change: func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}
		}, command: "/usr/bin/ls", want: notExecutable, says: "this container may not have: CAP_NET_RAW", advises: []string{"--cap-add CAP_NET_RAW"}},
	})
}

func TestInterpreterThatIsMissing(t *testing.T) {
	here, _ := here()
	checkPlanted(t, []planted{
		{name: "none such", plant: file("app", "#!/no/such/interpreter\n"), command: "/app", want: notFound, says: `its first line, "#!/no/such/interpreter", names the interpreter "/no/such/interpreter", which is not in the image`},
		{name: "blanks, and an argument", plant: file("app", "#!  /no/such/interpreter  -x y\n"), command: "/app", want: notFound, says: `"/no/such/interpreter", which is not in the image`},
		{name: "it is elsewhere", plant: all(file("opt/bin/ruby", "x"), file("app", "#!/usr/bin/ruby\n")), command: "/app", want: notFound, says: `"/usr/bin/ruby"`, advises: []string{`"/opt/bin/ruby"`, "#!/usr/bin/env ruby"}},
		{name: "no env", plant: all(func(t *testing.T, root string) { os.Remove(filepath.Join(root, "usr/bin/env")) }, file("app", "#!/usr/bin/env python3\n")), command: "/app", want: notFound, says: `"/usr/bin/env", which is not in the image`},
		{name: "a name without a folder", plant: file("app", "#!sh\n"), command: "/app", want: notFound, says: `"sh", which is not in the working folder`, advises: []string{`bin/sh"`}},
		{name: "found in PATH", plant: file("usr/local/bin/app", "#!/bin/zsh\n"), command: "app", want: notFound, says: `"/bin/zsh"`},
		{name: "the interpreter's interpreter", plant: all(file("usr/bin/inner", "#!/no/such\n"), file("app", "#!/usr/bin/inner\n")), command: "/app", want: notFound, says: `"/usr/bin/inner": its first line, "#!/no/such", names`},
		{name: "a link that leads nowhere", plant: all(link("usr/bin/python", "python3.9"), file("app", "#!/usr/bin/python\n")), command: "/app", want: notFound, says: `symbolic link to "python3.9"`},
		{name: "no newline at the end", plant: file("app", "#!/bin/zsh"), command: "/app", want: notFound, says: `"/bin/zsh"`},
		{name: "a loader of glibc", plant: file("app", program(here, elf.ET_DYN, "/lib/ld-linux-none.so.2")), command: "/app", want: notFound, says: `needs the loader "/lib/ld-linux-none.so.2"`, advises: []string{"linked with glibc", "debian"}},
		{name: "a loader of glibc, where musl is", plant: all(file("lib/ld-musl-x86_64.so.1", ""), file("app", program(here, elf.ET_DYN, "/lib/ld-linux-none.so.2"))), command: "/app", want: notFound, says: "ld-linux-none.so.2", advises: []string{"this image has musl"}},
		{name: "a loader of musl", plant: file("app", program(here, elf.ET_EXEC, "/lib/ld-musl-none.so.1")), command: "/app", want: notFound, says: `"/lib/ld-musl-none.so.1"`, advises: []string{"linked with musl", "alpine"}},
		{name: "another loader", plant: file("app", program(here, elf.ET_DYN, "/nix/store/x/ld.so")), command: "/app", want: notFound, says: `"/nix/store/x/ld.so", which is not in the image`, advises: []string{"statically"}},
		{name: "the interpreter's loader", plant: all(file("usr/bin/ruby", program(here, elf.ET_DYN, "/lib/none.so")), file("app", "#!/usr/bin/ruby\n")), command: "/app", want: notFound, says: `the interpreter "/usr/bin/ruby": it needs the loader "/lib/none.so"`},
	})
}

func TestLinesThatEndAsOnWindows(t *testing.T) {
	var faults []planted
	for name, content := range map[string]string{
		"sh":                        "#!/bin/sh\r\necho hello\r\n",
		"a blank before":            "#! /bin/sh\r\n",
		"an argument":               "#!/bin/zsh -e\r\n",
		"bash":                      "#!/bin/bash\r\nset -e\r\n",
		"python":                    "#!/usr/bin/python3\r\nprint()\r\n",
		"only one line":             "#!/bin/sh\r\n",
		"no line after it":          "#!/bin/sh\r",
		"only the first line":       "#!/bin/sh\r\necho hello\n",
		"a tab":                     "#!\t/bin/sh\r\n",
		"an interpreter not here":   "#!/no/such\r\n",
		"an argument, no such file": "#!/no/such -x\r\n",
	} {
		faults = append(faults, planted{name: name, plant: file("entry point.sh", content), command: "/entry point.sh", want: notFound, says: "ends with CR LF", advises: []string{`sed -i 's/\r$//' "/entry point.sh"`}})
	}
	checkPlanted(t, faults)
}

func TestProgramForAnotherArchitecture(t *testing.T) {
	here, there := here()
	var faults []planted
	for machine, name := range map[elf.Machine]string{
		there: map[elf.Machine]string{elf.EM_AARCH64: "arm64", elf.EM_X86_64: "amd64"}[there], elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64le",
		elf.EM_LOONGARCH: "loong64", elf.EM_MIPS: "mips", elf.EM_SPARCV9: "EM_SPARCV9", elf.EM_ALPHA: "EM_ALPHA", elf.EM_IA_64: "EM_IA_64",
	} {
		faults = append(faults, planted{name: name, plant: file("app", program(machine, elf.ET_EXEC, "")), command: "/app", want: notExecutable,
			says: "it is a program for " + name + ", and this machine is " + runtime.GOARCH, advises: []string{"--platform linux/" + runtime.GOARCH, "qemu-user-static"}})
	}
	other := program(there, elf.ET_DYN, "/lib/ld.so")
	faults = append(faults,
		planted{name: "with a loader", plant: file("app", other), command: "/app", want: notExecutable, says: "it is a program for"},
		planted{name: "in PATH", plant: file("usr/bin/tool", other), command: "tool", want: notExecutable, says: `"/usr/bin/tool": exec format error: it is a program for`},
		planted{name: "as an interpreter", plant: all(file("usr/bin/ruby", other), file("app", "#!/usr/bin/ruby\n")), command: "/app", want: notExecutable, says: `the interpreter "/usr/bin/ruby": it is a program for`},
		planted{name: "as a loader", plant: all(file("lib/none.so", other), file("app", program(here, elf.ET_DYN, "/lib/none.so"))), command: "/app", want: notExecutable, says: `it needs the loader "/lib/none.so": it is a program for`},
	)
	checkPlanted(t, faults)
}

func TestFileThatIsNoProgram(t *testing.T) {
	here, _ := here()
	whole := program(here, elf.ET_EXEC, "")
	var faults []planted
	for _, tt := range []struct{ name, content, says, advises string }{
		{"an empty file", "", "the file is empty", "disk"},
		{"text", "echo hello\n", `it is text, and does not begin with "#!"`, "#!/bin/sh"},
		{"text in UTF-8", "grüße 你好\n", "it is text", `sh "/app"`},
		{"a blank line before the #!", "\n#!/bin/sh\n", `something stands before its "#!"`, "begin"},
		{"a byte order mark", "\xef\xbb\xbf#!/bin/sh\n", "byte order mark", "sed"},
		{"UTF-16", "\xff\xfe#\x00!\x00", "UTF-16", "UTF-8"},
		{"no interpreter behind the #!", "#!\n/bin/sh\n", "names no interpreter", "#!/bin/sh"},
		{"only blanks behind the #!", "#!  \t \n", "names no interpreter", "#!/bin/sh"},
		{"an interpreter's name without end", "#!/" + strings.Repeat("x", 300) + "\n", "longer than the 256 bytes", "shorter"},
		{"for Windows", "MZ\x90\x00", "for Windows", "GOOS=linux"},
		{"for macOS", "\xcf\xfa\xed\xfe\x07\x00", "for macOS", "GOOS=linux"},
		{"a jar", "PK\x03\x04", "a zip archive", "java -jar"},
		{"an archive", "\x1f\x8b\x08\x00", "a gzip archive", "unpack"},
		{"a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", "git lfs pull"},
		{"an error page", "<!DOCTYPE html><title>404</title>", "a web page", "downloaded"},
		{"bytes", "\x00\x01\x02\x03 neither ELF nor a script", "it begins with the bytes 00 01 02 03", ""},
		{"the beginning of a program", whole[:10], "ends after 10 bytes", "broke off"},
		{"a program without its headers", whole[:70], "a damaged program", "broke off"},
		{"an object file", program(here, elf.ET_REL, ""), "an object file", "linker"},
		{"a core dump", program(here, elf.ET_CORE, ""), "a core dump", ""},
	} {
		faults = append(faults, planted{name: tt.name, plant: file("app", tt.content), command: "/app", want: notExecutable, says: tt.says, advises: []string{tt.advises}})
	}
	faults = append(faults, planted{name: "an interpreter that is text", plant: all(file("inner", "text\n"), file("app", "#!/inner\n")), command: "/app", want: notExecutable, says: `the interpreter "/inner": it is text`})
	checkPlanted(t, faults)
}
