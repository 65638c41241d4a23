#include "textflag.h"

// See init_arm64.s.
#define read 63
#define exit_group 94
#define rt_sigprocmask 135
#define prctl 167
#define recvmsg 212
#define pidfd_send_signal 424
#define close_range 436

DATA ·guardBegin(SB)/8, $·guard(SB)
GLOBL ·guardBegin(SB), NOPTR, $8
DATA ·guardEnd(SB)/8, $·afterGuard(SB)
GLOBL ·guardEnd(SB), NOPTR, $8

// See guard_amd64.s: this is the same.
TEXT ·guard(SB), NOSPLIT|NOFRAME, $0
	SUB  $112, RSP

	MOVD $-1, R9             // block all signals
	MOVD R9, 0(RSP)
	MOVD $rt_sigprocmask, R8
	MOVD $0, R0              // SIG_BLOCK
	MOVD RSP, R1
	MOVD $0, R2
	MOVD $8, R3
	SVC

	MOVD $close_range, R8
	MOVD $1, R0
	MOVD $0xffffffff, R1
	MOVD $0, R2
	SVC

	MOVD $0x672d72656b636f67, R9 // "gocker-g"
	MOVD R9, 0(RSP)
	MOVD $0x64726175, R9         // "uard"
	MOVD R9, 8(RSP)
	MOVD $prctl, R8
	MOVD $15, R0             // PR_SET_NAME
	MOVD RSP, R1
	SVC

	MOVD ZR, 0(RSP)          // msg_name
	MOVD ZR, 8(RSP)
	ADD  $56, RSP, R9
	MOVD R9, 16(RSP)         // msg_iov
	MOVD $1, R10
	MOVD R10, 24(RSP)
	ADD  $72, RSP, R9
	MOVD R9, 32(RSP)         // msg_control
	MOVD $24, R9
	MOVD R9, 40(RSP)         // CMSG_SPACE of one descriptor
	ADD  $96, RSP, R9
	MOVD R9, 56(RSP)
	MOVD R10, 64(RSP)
	MOVD $recvmsg, R8
	MOVD $0, R0
	MOVD RSP, R1
	MOVD $0, R2
	SVC
	CMP  $0, R0
	BLE  exit                // nobody is to be guarded

wait:
	MOVD $read, R8
	MOVD $0, R0
	MOVD RSP, R1
	MOVD $1, R2
	SVC
	CMP  $0, R0
	BGT  wait                // nobody writes

	MOVD $pidfd_send_signal, R8
	MOVD $1, R0
	MOVD $9, R1              // SIGKILL
	MOVD $0, R2
	MOVD $0, R3
	SVC
exit:
	MOVD $exit_group, R8
	MOVD $0, R0
	SVC

TEXT ·afterGuard(SB), NOSPLIT|NOFRAME, $0
	RET
