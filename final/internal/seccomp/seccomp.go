//go:build linux

// Package seccomp compiles a filter of system calls: a small program that the kernel runs at every system call of a process
// and of all that it starts.
//
//	program, err := seccomp.Compile(spec.Linux.Seccomp)
//
// It is handed a struct seccomp_data, with the number of the call and its arguments, and returns what becomes of the call. The
// specification lists names of calls, with conditions on arguments. Here each list becomes a search in a sorted table:
// numbers that lie side by side and have the same answer are one entry, so a call is decided after about eight comparisons,
// and not after some hundred. That is felt at each call, and already when the filter is loaded: the kernel tries all numbers
// then, to remember those that are always allowed.
//
// Others' calls have other numbers: on a 64-bit PC any program can make 32-bit ones (int 0x80), and then socketcall(2) would
// open the sockets that socket(2) may not. They cannot be filtered by the same list, so a process that makes one is killed.
// Those of x32 are ENOSYS.
//
// See seccomp(2), the kernel's "Seccomp BPF", and "Seccomp" in the specification's config-linux.md.
package seccomp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// An instruction is one of the kernel's classic BPF. There is one register: see the kernel's "Linux Socket Filtering".
type instruction = unix.SockFilter

func load(offset uint32) instruction {
	return instruction{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func answer(value uint32) instruction {
	return instruction{Code: unix.BPF_RET | unix.BPF_K, K: value}
}

// jump goes on after so many instructions, by whether the register compares so with the value.
func jump(comparison uint16, value uint32, ifSo, ifNot int) instruction {
	return instruction{Code: unix.BPF_JMP | unix.BPF_K | comparison, K: value, Jt: uint8(ifSo), Jf: uint8(ifNot)}
}

// Where struct seccomp_data has what. An argument has 8 bytes, the lower half first.
const (
	numberOffset    = 0
	archOffset      = 4
	argumentsOffset = 16
)

// A rule is one of the specification's.
type rule struct {
	conditions []specs.LinuxSeccompArg
	group      int           // rules with the same answer are a group, and groups are asked in the order of their first rules
	answer     []instruction // one
}

// Unasked is the ListenerMetadata of a filter that asks gocker nothing: a program of the container is to have a listener of its
// own, and the kernel allows one.
const Unasked = "unasked"

// Compile compiles a filter. A word that the kernel or the specification does not know is an error; a name of a call that this machine
// does not have is none, as lists are written for all machines.
func Compile(spec *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	usual, err := answerOf(spec.DefaultAction, spec.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("default %w", err)
	}
	rules, err := rulesOf(spec)
	if err != nil {
		return nil, err
	}
	program := []instruction{
		load(archOffset),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		answer(unix.SECCOMP_RET_KILL_PROCESS),
		load(numberOffset),
	}
	return search(program, spansOf(rules, []instruction{answer(usual)})), nil
}

// rulesOf are the rules for each call, by its number, in the order in which they are asked.
func rulesOf(spec *specs.LinuxSeccomp) (ofCall [][]*rule, err error) {
	var rules []rule
	var groups []uint32
	for _, r := range spec.Syscalls {
		value, err := answerOf(r.Action, r.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, c := range r.Args {
			if _, ok := comparisons[c.Op]; !ok || c.Index > 5 {
				return nil, fmt.Errorf("condition %q on argument %d: not supported", c.Op, c.Index)
			}
		}
		group := slices.Index(groups, value)
		if group < 0 {
			group = len(groups)
			groups = append(groups, value)
		}
		rules = append(rules, rule{r.Args, group, []instruction{answer(value)}})
	}
	for group := range groups {
		for i := range rules {
			if rules[i].group != group {
				continue
			}
			for _, name := range spec.Syscalls[i].Names {
				number, ok := Number(name)
				if !ok {
					continue
				}
				for int(number) >= len(ofCall) {
					ofCall = append(ofCall, nil)
				}
				ofCall[number] = append(ofCall[number], &rules[i])
			}
		}
	}
	return ofCall, nil
}

var actions = map[specs.LinuxSeccompAction]uint32{
	specs.ActAllow: unix.SECCOMP_RET_ALLOW, specs.ActErrno: unix.SECCOMP_RET_ERRNO, specs.ActLog: unix.SECCOMP_RET_LOG,
	specs.ActKill: unix.SECCOMP_RET_KILL_THREAD, specs.ActKillThread: unix.SECCOMP_RET_KILL_THREAD,
	specs.ActKillProcess: unix.SECCOMP_RET_KILL_PROCESS, specs.ActTrap: unix.SECCOMP_RET_TRAP,
}

// answerOf is an action as the kernel has it. The specification has more of them: these need a process that answers, and are
// refused.
func answerOf(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	value, ok := actions[action]
	if !ok {
		return 0, fmt.Errorf("action %q: not supported", action)
	}
	if action == specs.ActErrno {
		number := uint32(unix.EPERM)
		if errno != nil {
			number = uint32(*errno)
		}
		value |= number & unix.SECCOMP_RET_DATA
	}
	return value, nil
}

// A span is all calls from a number up to the next span, and what decides them: it ends in answers.
type span struct {
	from uint32
	code []instruction
}

// spansOf are the spans of all numbers. Those that no rule names have the usual answer.
func spansOf(ofCall [][]*rule, usual []instruction) []span {
	var spans []span
	add := func(from uint32, code []instruction) {
		if last := len(spans) - 1; last < 0 || len(code) > 1 || !slices.Equal(spans[last].code, code) {
			spans = append(spans, span{from, code})
		}
	}
	for number, rules := range ofCall {
		add(uint32(number), decide(rules, usual))
	}
	add(uint32(len(ofCall)), usual)
	if x32 > 0 {
		add(x32, []instruction{answer(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))})
	}
	return spans
}

// farthest is how many instructions a comparison can jump over.
const farthest = 255

// search adds the code that finds the span of the number in the register, and decides.
func search(code []instruction, spans []span) []instruction {
	if len(spans) == 1 {
		return append(code, spans[0].code...)
	}
	middle := len(spans) / 2
	if below := size(spans[:middle]); below <= farthest {
		code = append(code, jump(unix.BPF_JGE, spans[middle].from, below, 0))
	} else {
		code = append(code, jump(unix.BPF_JGE, spans[middle].from, 0, 1), instruction{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(below)})
	}
	return search(search(code, spans[:middle]), spans[middle:])
}

// size is how many instructions search adds.
func size(spans []span) int {
	if len(spans) == 1 {
		return len(spans[0].code)
	}
	below, above := size(spans[:len(spans)/2]), size(spans[len(spans)/2:])
	if below <= farthest {
		return 1 + below + above
	}
	return 2 + below + above
}

// decide is the code for one call: the first rule whose conditions hold. Of rules with the same answer, one without
// conditions is enough.
func decide(rules []*rule, usual []instruction) []instruction {
	if len(rules) == 0 {
		return usual
	}
	first := rules[0]
	for _, same := range rules {
		if same.group == first.group && len(same.conditions) == 0 {
			return first.answer
		}
	}
	code := first.answer
	for _, c := range slices.Backward(first.conditions) {
		code = append(check(c, len(code)), code...)
	}
	return append(code, decide(rules[1:], usual)...)
}

// A comparison of 64 bits is one of the upper halves and, if these are the same, one of the lower halves.
type comparison struct {
	upper    uint16 // if this holds, so does the condition; 0 is none
	upperNot bool   // if it does not
	lower    uint16
	lowerNot bool
	masked   bool
}

var comparisons = map[specs.LinuxSeccompOperator]comparison{
	specs.OpEqualTo:      {lower: unix.BPF_JEQ},
	specs.OpMaskedEqual:  {lower: unix.BPF_JEQ, masked: true},
	specs.OpNotEqual:     {upper: unix.BPF_JEQ, upperNot: true, lower: unix.BPF_JEQ, lowerNot: true},
	specs.OpGreaterThan:  {upper: unix.BPF_JGT, lower: unix.BPF_JGT},
	specs.OpGreaterEqual: {upper: unix.BPF_JGT, lower: unix.BPF_JGE},
	specs.OpLessThan:     {upper: unix.BPF_JGE, upperNot: true, lower: unix.BPF_JGE, lowerNot: true},
	specs.OpLessEqual:    {upper: unix.BPF_JGE, upperNot: true, lower: unix.BPF_JGT, lowerNot: true},
}

// check goes on behind itself if a condition holds, else behind so many instructions more.
func check(c specs.LinuxSeccompArg, then int) []instruction {
	how := comparisons[c.Op]
	want, mask := c.Value, ^uint64(0)
	if how.masked {
		want, mask = c.ValueTwo, c.Value
	}
	branch := func(comparison uint16, not bool, value uint32, ifSo, ifNot int) instruction {
		if not {
			ifSo, ifNot = ifNot, ifSo
		}
		return jump(comparison, value, ifSo, ifNot)
	}
	offset := argumentsOffset + 8*uint32(c.Index)
	lower := loadMasked(offset, uint32(mask))
	lower = append(lower, branch(how.lower, how.lowerNot, uint32(want), 0, then))
	upper := loadMasked(offset+4, uint32(mask>>32))
	if how.upper != 0 {
		upper = append(upper, branch(how.upper, how.upperNot, uint32(want>>32), len(lower)+1, 0))
	}
	upper = append(upper, jump(unix.BPF_JEQ, uint32(want>>32), 0, len(lower)+then))
	return append(upper, lower...)
}

func loadMasked(offset, mask uint32) []instruction {
	code := []instruction{load(offset)}
	if mask != ^uint32(0) {
		code = append(code, instruction{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
	}
	return code
}

// A call is a system call of this machine.
type call struct {
	name   string
	number uint32
}

// Number is that of a system call, if this machine has one of this name.
func Number(name string) (number uint32, ok bool) {
	at, ok := slices.BinarySearchFunc(calls, name, func(c call, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		return 0, false
	}
	return calls[at].number, true
}

// Name is that of a system call, "number 1000" if it is too new for that.
func Name(number uint32) string {
	for _, c := range calls {
		if c.number == number {
			return c.name
		}
	}
	return fmt.Sprintf("number %d", number)
}
