#include "textflag.h"

// The numbers of system calls: see syscalls(2). Arguments are in DI, SI, DX, R10, R8, R9, the result is in AX.
#define rt_sigprocmask 14
#define ioctl 16
#define getpid 39
#define clone 56
#define execve 59
#define wait4 61
#define kill 62
#define setpgid 109
#define rt_sigtimedwait 128
#define exit_group 231
#define write 1

DATA ·begin(SB)/8, $·program(SB)
GLOBL ·begin(SB), NOPTR, $8
DATA ·end(SB)/8, $·programEnd(SB)
GLOBL ·end(SB), NOPTR, $8

// The kernel begins here, with argc, argv, a zero and envp on the stack.
TEXT ·program(SB), NOSPLIT|NOFRAME, $0
	MOVQ 0(SP), R12        // argc
	LEAQ 8(SP), R13        // argv
	LEAQ 8(R13)(R12*8), R14 // envp
	PUSHQ $-1              // 8(SP): a set of all signals
	PUSHQ $0               // 0(SP): for what the kernel writes

	// Block all signals: what is blocked waits to be taken, also where nobody handles it.
	MOVQ $rt_sigprocmask, AX
	XORL DI, DI            // SIG_BLOCK
	LEAQ 8(SP), SI
	XORL DX, DX
	MOVQ $8, R10
	SYSCALL

	MOVQ $clone, AX
	MOVQ $17, DI           // SIGCHLD
	XORL SI, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	JLT  failed
	MOVQ AX, R15           // the command's pid

next:
	MOVQ $rt_sigtimedwait, AX
	LEAQ 8(SP), DI
	XORL SI, SI
	XORL DX, DX            // as long as it takes
	MOVQ $8, R10
	SYSCALL
	CMPQ AX, $17
	JEQ  reap
	TESTQ AX, AX
	JLE  next
	MOVQ AX, SI            // pass it on
	MOVQ R15, DI
	MOVQ $kill, AX
	SYSCALL
	JMP  next

reap: // one SIGCHLD may stand for several children
	MOVQ $wait4, AX
	MOVQ $-1, DI
	MOVQ SP, SI
	MOVQ $1, DX            // WNOHANG
	XORL R10, R10
	SYSCALL
	TESTQ AX, AX
	JLE  next
	CMPQ AX, R15
	JNE  reap
	MOVL 0(SP), AX         // the command has ended: so do we, as shells say it
	MOVL AX, DI
	ANDL $0x7f, DI
	ADDL $128, DI          // by a signal
	TESTL $0x7f, AX
	JNE  exit
	SHRL $8, AX            // by itself
	ANDL $0xff, AX
	MOVL AX, DI
exit:
	MOVQ $exit_group, AX
	SYSCALL
failed:
	MOVQ $126, DI
	JMP  exit

child:
	// A process group of its own, in the foreground of its terminal, if it has one: else Ctrl-C would reach it twice.
	MOVQ $setpgid, AX
	XORL DI, DI
	XORL SI, SI
	SYSCALL
	MOVQ $getpid, AX
	SYSCALL
	MOVQ AX, 0(SP)
	MOVQ $ioctl, AX
	XORL DI, DI
	MOVQ $0x5410, SI       // TIOCSPGRP
	MOVQ SP, DX
	SYSCALL

	MOVQ $0, 8(SP)         // a set of no signals
	MOVQ $rt_sigprocmask, AX
	MOVQ $2, DI            // SIG_SETMASK
	LEAQ 8(SP), SI
	XORL DX, DX
	MOVQ $8, R10
	SYSCALL

	MOVQ $execve, AX
	MOVQ 8(R13), DI        // PATH
	LEAQ 16(R13), SI       // ARG0 and so on
	MOVQ R14, DX
	SYSCALL
	MOVQ $126, R12         // it cannot be executed
	CMPQ AX, $-2           // ENOENT
	JNE  tell
	MOVQ $127, R12         // it is not there
tell:
	MOVQ $0x203a72656b636f67, AX // "gocker: "
	MOVQ $0x6520746f6e6e6163, BX // "cannot e"
	MOVQ $0x000a657475636578, CX // "xecute\n"
	PUSHQ CX
	PUSHQ BX
	PUSHQ AX
	MOVQ $write, AX
	MOVQ $2, DI
	MOVQ SP, SI
	MOVQ $23, DX
	SYSCALL
	MOVQ R12, DI
	JMP  exit

TEXT ·programEnd(SB), NOSPLIT|NOFRAME, $0
	RET
