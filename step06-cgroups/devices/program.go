//go:build linux

package devices

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// attach has the kernel ask a program whenever a process of the cgroup, or of one inside, makes or opens a node.
// See BPF_PROG_TYPE_CGROUP_DEVICE in bpf(2).
func attach(folder string, code []instruction) error {
	license := []byte("Apache-2.0\x00")
	program, err := bpf(unix.BPF_PROG_LOAD, &struct {
		kind, count   uint32
		code, license unsafe.Pointer
		logs          [16]byte
		_, flags      uint32
		name          [16]byte
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)),
		code: unsafe.Pointer(&code[0]), license: unsafe.Pointer(&license[0]),
		name: [16]byte{'g', 'o', 'c', 'k', 'e', 'r'},
	})
	if err != nil {
		return fmt.Errorf("load the program that guards devices: %w", err)
	}
	defer unix.Close(program) // the cgroup keeps it, and lets go of it when it is removed
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = bpf(unix.BPF_PROG_ATTACH, &struct{ target, program, kind, flags uint32 }{
		uint32(f.Fd()), uint32(program), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI,
	})
	if err != nil {
		return fmt.Errorf("attach the program that guards devices to %q: %w", folder, err)
	}
	return nil
}

func bpf[T any](command int, attr *T) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		switch errno {
		case 0:
			return int(r), nil
		case unix.EAGAIN, unix.EINTR: // the verifier was interrupted
		default:
			return -1, errno
		}
	}
}

// An instruction of the kernel's machine has eleven registers and these parts: see "BPF Instruction Set" in the
// kernel's documents. Of the two registers the lower half byte is the one that is changed or compared.
type instruction struct {
	code, registers uint8
	offset          int16 // of memory, or how many instructions a jump leaves out
	value           int32
}

// The registers of a program. The kernel calls it with a pointer in r1, and takes its answer from r0: 1 or 0.
const (
	answer  = 0
	context = 1 // struct bpf_cgroup_dev_ctx: access and type, major, minor; later room for a computation
	kind    = 2
	access  = 3
	major   = 4
	minor   = 5
)

// The codes of its instructions.
const (
	load        = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	copy        = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
	set         = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	and         = unix.BPF_ALU64 | unix.BPF_AND | unix.BPF_K
	shift       = unix.BPF_ALU64 | unix.BPF_RSH | unix.BPF_K
	jumpEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpUnequal = unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K
	exit        = unix.BPF_JMP | unix.BPF_EXIT
)

// program is the rules as a program: the last that fits decides, so they are asked from the last to the first.
func program(rules []specs.LinuxDeviceCgroup) []instruction {
	program := []instruction{
		{load, kind | context<<4, 0, 0},
		{load, major | context<<4, 4, 0},
		{load, minor | context<<4, 8, 0},
		{copy, access | kind<<4, 0, 0},
		{and, kind, 0, 0xffff},
		{shift, access, 0, 16},
	}
	for _, r := range slices.Backward(rules) {
		decision := int32(0)
		if r.Allow {
			decision = 1
		}
		program = append(append(program, tests(r)...), instruction{set, answer, 0, decision}, instruction{exit, 0, 0, 0})
	}
	return append(program, instruction{set, answer, 0, 1}, instruction{exit, 0, 0, 0})
}

// tests ask for what a rule names, and if something does not fit, jump behind its decision.
func tests(r specs.LinuxDeviceCgroup) (tests []instruction) {
	var bits int32
	for i, letter := range "mrw" { // BPF_DEVCG_ACC_MKNOD, _READ and _WRITE
		if strings.ContainsRune(r.Access, letter) {
			bits |= 1 << i
		}
	}
	if want, ok := types[r.Type]; ok {
		tests = append(tests, instruction{jumpUnequal, kind, 0, want})
	}
	// A rule that allows matches if nothing else is wanted; a rule that denies matches if any of its accesses is wanted.
	tests = append(tests, instruction{copy, context | access<<4, 0, 0})
	if r.Allow {
		tests = append(tests, instruction{and, context, 0, ^bits}, instruction{jumpUnequal, context, 0, 0})
	} else {
		tests = append(tests, instruction{and, context, 0, bits}, instruction{jumpEqual, context, 0, 0})
	}
	if !isAny(r.Major) {
		tests = append(tests, instruction{jumpUnequal, major, 0, int32(*r.Major)})
	}
	if !isAny(r.Minor) {
		tests = append(tests, instruction{jumpUnequal, minor, 0, int32(*r.Minor)})
	}
	for i := range tests {
		if tests[i].code == jumpEqual || tests[i].code == jumpUnequal {
			tests[i].offset = int16(len(tests) - i - 1 + 2) // the decision is two instructions
		}
	}
	return tests
}

var types = map[string]int32{"b": unix.BPF_DEVCG_DEV_BLOCK, "c": unix.BPF_DEVCG_DEV_CHAR}
