#include "textflag.h"

// The numbers of system calls: see the kernel's asm-generic/unistd.h. Arguments are in R0 to R5, the number in R8, the
// result is in R0. The registers from R19 on are kept.
#define ioctl 29
#define write 64
#define exit_group 94
#define kill 129
#define rt_sigprocmask 135
#define rt_sigtimedwait 137
#define setpgid 154
#define getpid 172
#define clone 220
#define execve 221
#define wait4 260

DATA ·begin(SB)/8, $·program(SB)
GLOBL ·begin(SB), NOPTR, $8
DATA ·end(SB)/8, $·programEnd(SB)
GLOBL ·end(SB), NOPTR, $8

// The kernel begins here, with argc, argv, a zero and envp on the stack. See init_amd64.s: this is the same.
TEXT ·program(SB), NOSPLIT|NOFRAME, $0
	MOVD 0(RSP), R19         // argc
	ADD  $8, RSP, R20        // argv
	ADD  $8, R20, R21
	ADD  R19<<3, R21, R21    // envp
	SUB  $32, RSP
	MOVD $-1, R9
	MOVD R9, 8(RSP)          // a set of all signals

	MOVD $rt_sigprocmask, R8 // block them
	MOVD $0, R0              // SIG_BLOCK
	ADD  $8, RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	SVC

	MOVD $clone, R8
	MOVD $17, R0             // SIGCHLD
	MOVD $0, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	SVC
	CMP  $0, R0
	BEQ  child
	BLT  failed
	MOVD R0, R22             // the command's pid

next:
	MOVD $rt_sigtimedwait, R8
	ADD  $8, RSP, R0
	MOVD $0, R1
	MOVD $0, R2              // as long as it takes
	MOVD $8, R3
	SVC
	CMP  $17, R0
	BEQ  reap
	CMP  $0, R0
	BLE  next
	MOVD R0, R1              // pass it on
	MOVD R22, R0
	MOVD $kill, R8
	SVC
	B    next

reap: // one SIGCHLD may stand for several children
	MOVD $wait4, R8
	MOVD $-1, R0
	MOVD RSP, R1
	MOVD $1, R2              // WNOHANG
	MOVD $0, R3
	SVC
	CMP  $0, R0
	BLE  next
	CMP  R22, R0
	BNE  reap
	MOVWU 0(RSP), R9         // the command has ended: so do we, as shells say it
	AND  $0x7f, R9, R0
	CBZ  R0, byItself
	ADD  $128, R0            // by a signal
	B    exit
byItself:
	LSR  $8, R9, R0
	AND  $0xff, R0
exit:
	MOVD $exit_group, R8
	SVC
failed:
	MOVD $126, R0
	B    exit

child:
	// A process group of its own, in the foreground of its terminal, if it has one: else Ctrl-C would reach it twice.
	MOVD $setpgid, R8
	MOVD $0, R0
	MOVD $0, R1
	SVC
	MOVD $getpid, R8
	SVC
	MOVD R0, 0(RSP)
	MOVD $ioctl, R8
	MOVD $0, R0
	MOVD $0x5410, R1         // TIOCSPGRP
	MOVD RSP, R2
	SVC

	MOVD ZR, 8(RSP)          // a set of no signals
	MOVD $rt_sigprocmask, R8
	MOVD $2, R0              // SIG_SETMASK
	ADD  $8, RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	SVC

	MOVD $execve, R8
	MOVD 8(R20), R0          // PATH
	ADD  $16, R20, R1        // ARG0 and so on
	MOVD R21, R2
	SVC
	MOVD $126, R23           // it cannot be executed
	CMN  $2, R0              // ENOENT is -2
	BNE  tell
	MOVD $127, R23           // it is not there
tell:
	MOVD $0x203a72656b636f67, R9   // "gocker: "
	MOVD $0x6520746f6e6e6163, R10  // "cannot e"
	MOVD $0x000a657475636578, R11  // "xecute\n"
	MOVD R9, 0(RSP)
	MOVD R10, 8(RSP)
	MOVD R11, 16(RSP)
	MOVD $write, R8
	MOVD $2, R0
	MOVD RSP, R1
	MOVD $23, R2
	SVC
	MOVD R23, R0
	B    exit

TEXT ·programEnd(SB), NOSPLIT|NOFRAME, $0
	RET
