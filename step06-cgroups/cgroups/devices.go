//go:build linux

package cgroups

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A device node is a kind of file, a type and two numbers, and whoever opens one with the numbers of the machine's disk
// has the disk. Root in a container may make nodes (CAP_MKNOD). So a cgroup has a list of those that may be opened:
// with v1 two files take its rules, with v2 a program decides, which is loaded into the kernel.

// DenyDevices is the rule that a list begins with: what follows allows some.
var DenyDevices = specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"}

// defaultDevices may be used by all containers that have a list: nodes without a device behind them, terminals of the
// container's own, and to make (m) any node, which is not to open it. docker allows the host's console (5:1) too.
func defaultDevices() []specs.LinuxDeviceCgroup {
	rule := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access}
	}
	return []specs.LinuxDeviceCgroup{
		rule("c", -1, -1, "m"), rule("b", -1, -1, "m"),
		rule("c", 1, 3, "rwm"), rule("c", 1, 5, "rwm"), rule("c", 1, 7, "rwm"), // null, zero, full
		rule("c", 1, 8, "rwm"), rule("c", 1, 9, "rwm"), // random, urandom
		rule("c", 5, 0, "rwm"), rule("c", 5, 2, "rwm"), rule("c", 136, -1, "rwm"), // tty, ptmx, pts
	}
}

// devices are the rules in the words of v1: "c 1:3 rwm" for the file devices.allow. The later one wins, but
// here the kernel lets only that be denied that was allowed by the same numbers.
func (cg v1) devices(r *specs.LinuxResources) (s []setting) {
	if r.Devices == nil {
		return nil
	}
	for _, d := range slices.Concat(r.Devices, defaultDevices()) {
		file := "devices.deny"
		if d.Allow {
			file = "devices.allow"
		}
		rule := fmt.Sprintf("%s %s:%s %s", cmp.Or(d.Type, "a"), numberOf(d.Major), numberOf(d.Minor), d.Access)
		s = append(s, setting{"devices", "devices", file, rule})
	}
	return s
}

// anyNumber tells whether a rule is for all numbers.
func anyNumber(n *int64) bool { return n == nil || *n < 0 }

func numberOf(n *int64) string {
	if anyNumber(n) {
		return "*"
	}
	return fmt.Sprint(*n)
}

// guardDevices has the kernel ask a program whenever a process of the cgroup, or of one inside, makes or opens a node.
// See BPF_PROG_TYPE_CGROUP_DEVICE in bpf(2), and "Device controller" in the kernel's cgroup-v2.rst.
func (cg v2) guardDevices(rules []specs.LinuxDeviceCgroup) error {
	code := deviceProgram(slices.Concat(rules, defaultDevices()))
	license := []byte("Apache-2.0\x00")
	program, err := bpf(unix.BPF_PROG_LOAD, &struct {
		kind, count   uint32
		code, license uintptr
		logs          [16]byte
		_, flags      uint32
		name          [16]byte
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)),
		code: uintptr(unsafe.Pointer(&code[0])), license: uintptr(unsafe.Pointer(&license[0])),
		name: [16]byte{'g', 'o', 'c', 'k', 'e', 'r'},
	})
	if err != nil {
		return fmt.Errorf("load the program that guards devices: %w", err)
	}
	defer unix.Close(program) // the cgroup keeps it, and lets go of it when it is removed
	folder, err := os.Open(cg.path)
	if err != nil {
		return err
	}
	defer folder.Close()
	_, err = bpf(unix.BPF_PROG_ATTACH, &struct{ target, program, kind, flags uint32 }{
		uint32(folder.Fd()), uint32(program), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI,
	})
	if err != nil {
		return fmt.Errorf("attach the program that guards devices to %q: %w", cg.path, err)
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

// The registers of a deviceProgram. The kernel calls it with a pointer in r1, and takes its answer from r0: 1 or 0.
const (
	answer  = 0
	context = 1 // struct bpf_cgroup_dev_ctx: access and type, major, minor; later room for a computation
	kind    = 2
	access  = 3
	major   = 4
	minor   = 5
)

// deviceProgram is the rules as a program: the last that fits decides, so they are asked from the last to the first.
// Each asks for what it names, and if something does not fit, jumps to the next.
func deviceProgram(rules []specs.LinuxDeviceCgroup) []instruction {
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
	program := []instruction{
		{load, kind | context<<4, 0, 0},
		{load, major | context<<4, 4, 0},
		{load, minor | context<<4, 8, 0},
		{copy, access | kind<<4, 0, 0},
		{and, kind, 0, 0xffff},
		{shift, access, 0, 16},
	}
	types := map[string]int32{"b": unix.BPF_DEVCG_DEV_BLOCK, "c": unix.BPF_DEVCG_DEV_CHAR}
	bits := map[rune]int32{'m': unix.BPF_DEVCG_ACC_MKNOD, 'r': unix.BPF_DEVCG_ACC_READ, 'w': unix.BPF_DEVCG_ACC_WRITE}
	for _, r := range slices.Backward(rules) {
		var mask int32
		for _, letter := range r.Access {
			mask |= bits[letter]
		}
		var tests []instruction
		if want, ok := types[r.Type]; ok {
			tests = append(tests, instruction{jumpUnequal, kind, 0, want})
		}
		// An allowing rule is for who wants nothing else, a denying one for who wants any of it.
		tests = append(tests, instruction{copy, context | access<<4, 0, 0})
		if r.Allow {
			tests = append(tests, instruction{and, context, 0, ^mask}, instruction{jumpUnequal, context, 0, 0})
		} else {
			tests = append(tests, instruction{and, context, 0, mask}, instruction{jumpEqual, context, 0, 0})
		}
		if !anyNumber(r.Major) {
			tests = append(tests, instruction{jumpUnequal, major, 0, int32(*r.Major)})
		}
		if !anyNumber(r.Minor) {
			tests = append(tests, instruction{jumpUnequal, minor, 0, int32(*r.Minor)})
		}
		for i := range tests {
			if tests[i].code == jumpEqual || tests[i].code == jumpUnequal {
				tests[i].offset = int16(len(tests) - i - 1 + 2) // behind the two below
			}
		}
		decision := int32(0)
		if r.Allow {
			decision = 1
		}
		program = append(append(program, tests...), instruction{set, answer, 0, decision}, instruction{exit, 0, 0, 0})
	}
	return append(program, instruction{set, answer, 0, 1}, instruction{exit, 0, 0, 0})
}
