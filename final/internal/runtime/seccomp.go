//go:build linux

package runtime

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// A seccomp filter is a small program that the kernel runs at every system call of a process and of all that it
// starts: it looks at the call's number and arguments and lets it through, or not. The specification lists names and
// conditions; a library compiles them for this machine's architecture. Others' calls have other numbers: on a 64-bit PC
// any program can make 32-bit ones (int 0x80), and then socketcall(2) would open the sockets that socket(2) may not. They
// cannot be filtered by the same list, so a process that makes one is killed. Those of x32 are ENOSYS. See seccomp(2), and "Seccomp" in
// config-linux.md.

// seccompActions are the specification's actions. The rest need somebody who answers, and are refused.
var seccompActions = map[specs.LinuxSeccompAction]seccomp.Action{
	specs.ActAllow: seccomp.ActionAllow, specs.ActErrno: seccomp.ActionErrno, specs.ActLog: seccomp.ActionLog,
	specs.ActKill: seccomp.ActionKillThread, specs.ActKillThread: seccomp.ActionKillThread,
	specs.ActKillProcess: seccomp.ActionKillProcess, specs.ActTrap: seccomp.ActionTrap,
}

var seccompOperators = map[specs.LinuxSeccompOperator]seccomp.Operation{
	specs.OpEqualTo: seccomp.Equal, specs.OpNotEqual: seccomp.NotEqual,
	specs.OpGreaterThan: seccomp.GreaterThan, specs.OpGreaterEqual: seccomp.GreaterOrEqual,
	specs.OpLessThan: seccomp.LessThan, specs.OpLessEqual: seccomp.LessOrEqual,
}

// filtered is the part of a filter of system calls. denied hears what it denies, if that is not nil; else it asks nobody,
// and may outlive us. The filter needs CAP_SYS_ADMIN, if there is no no_new_privs, so it comes before the user.
func filtered(spec *specs.LinuxSeccomp, denied *denials) namespaces.Part {
	compiled := check.Elsewhere(func() (filter, error) { return compileFilter(spec, denied != nil) })
	return namespaces.Part{
		Last: func(list *birth.List) error {
			f, err := compiled()
			switch {
			case err != nil:
				return err
			case f.asks != 0:
				addListening(list, f.SockFprog)
			case f.SockFprog != nil:
				list.Add("load the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, unsafe.Pointer(f.SockFprog))
			}
			return nil
		},
		Sent: func(listener *os.File) {
			f, _ := compiled() // it was loaded
			go denied.listen(listener, f.asks)
		},
	}
}

// A filter is compiled. asks is the error that it denies calls with after it has asked us, 0 if it does not ask: see
// askInstead.
type filter struct {
	*unix.SockFprog
	asks syscall.Errno
}

// compileFilter compiles the spec's filter, if it has one.
func compileFilter(spec *specs.LinuxSeccomp, ask bool) (f filter, err error) {
	if spec == nil {
		return filter{}, nil
	}
	policy, err := seccompPolicy(spec)
	if err != nil {
		return filter{}, fmt.Errorf("seccomp filter: %w", err)
	}
	instructions, err := policy.Assemble()
	if err != nil {
		return filter{}, fmt.Errorf("seccomp filter: %w", err)
	}
	if spec.DefaultAction == specs.ActErrno && spec.DefaultErrnoRet != nil { // to the library it is always EPERM
		instructions[len(instructions)-1] = bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(*spec.DefaultErrnoRet)}
	}
	if ask {
		f.asks = askInstead(instructions, spec)
	}
	machine, err := arch.GetInfo("")
	if err != nil {
		return filter{}, fmt.Errorf("seccomp filter: %w", err)
	}
	const archOffset, size = 4, 4 // of struct seccomp_data's second field
	instructions = append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: archOffset, Size: size},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(machine.ID), SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
	}, instructions...)
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return filter{}, fmt.Errorf("seccomp filter: %w", err)
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	f.SockFprog = &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return f, nil
}

func seccompPolicy(spec *specs.LinuxSeccomp) (seccomp.Policy, error) {
	machine, err := arch.GetInfo("")
	if err != nil {
		return seccomp.Policy{}, err
	}
	action, ok := seccompActions[spec.DefaultAction]
	if !ok {
		return seccomp.Policy{}, fmt.Errorf("default action %q: not supported", spec.DefaultAction)
	}
	policy := seccomp.Policy{DefaultAction: action}
	groups := map[seccomp.Action]int{} // all rules of one action, in the order of their first
	type said struct {
		group int
		name  string
	}
	plain := map[said]bool{} // without conditions
	for _, rule := range spec.Syscalls {
		action, ok := seccompActions[rule.Action]
		if !ok {
			return policy, fmt.Errorf("action %q: not supported", rule.Action)
		}
		if action == seccomp.ActionErrno {
			errno := uint(unix.EPERM)
			if rule.ErrnoRet != nil {
				errno = *rule.ErrnoRet
			}
			action |= seccomp.Action(errno)
		}
		at, ok := groups[action]
		if !ok {
			at = len(policy.Syscalls)
			groups[action] = at
			policy.Syscalls = append(policy.Syscalls, seccomp.SyscallGroup{Action: action})
		}
		conditions, err := seccompConditions(rule.Args)
		if err != nil {
			return policy, err
		}
		group := &policy.Syscalls[at]
		for _, name := range rule.Names {
			_, known := machine.SyscallNames[name]
			switch {
			case !known || plain[said{at, name}]: // another architecture's, or said already
			case len(conditions) == 0:
				plain[said{at, name}] = true
				group.Names = append(group.Names, name)
			default:
				group.NamesWithCondtions = append(group.NamesWithCondtions, seccomp.NameWithConditions{Name: name, Conditions: conditions})
			}
		}
	}
	// A name without conditions makes its conditional rules of the same action pointless.
	for i := range policy.Syscalls {
		group := &policy.Syscalls[i]
		group.NamesWithCondtions = slices.DeleteFunc(group.NamesWithCondtions, func(n seccomp.NameWithConditions) bool {
			return plain[said{i, n.Name}]
		})
	}
	return policy, nil
}

func seccompConditions(args []specs.LinuxSeccompArg) (seccomp.ArgumentConditions, error) {
	var conditions seccomp.ArgumentConditions
	for _, arg := range args {
		c := seccomp.Condition{Argument: uint32(arg.Index), Operation: seccompOperators[arg.Op], Value: arg.Value}
		if arg.Op == specs.OpMaskedEqual && arg.ValueTwo == 0 {
			c.Operation = seccomp.BitsNotSet // argument & Value == 0
		}
		if c.Operation == "" {
			return nil, fmt.Errorf("condition %q with %d: not supported", arg.Op, arg.ValueTwo)
		}
		conditions = append(conditions, c)
	}
	return conditions, nil
}
