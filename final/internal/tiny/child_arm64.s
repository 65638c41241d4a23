#include "textflag.h"

// See init_arm64.s.
#define write 64
#define exit_group 94

DATA ·childBegin(SB)/8, $·child(SB)
GLOBL ·childBegin(SB), NOPTR, $8
DATA ·childEnd(SB)/8, $·afterChild(SB)
GLOBL ·childEnd(SB), NOPTR, $8

// See child_amd64.s: this is the same.
TEXT ·child(SB), NOSPLIT|NOFRAME, $0
	MOVD $0x401000, R19
	ADD  $8, R19, R20
	SUB  $32, RSP
	MOVD ZR, 0(RSP)
	MOVD ZR, 8(RSP)

next:
	MOVD 0(R20), R8
	MOVD 8(R20), R0
	MOVD 16(R20), R1
	MOVD 24(R20), R2
	MOVD 32(R20), R3
	MOVD 40(R20), R4
	MOVD 56(R20), R21      // what is special about it
	CMP  $3, R21           // Waits
	BNE  call
	ADD  $16, RSP, R1
call:
	SVC
	CMP  $0, R0
	BLT  failed
	CMP  $2, R21           // Begets
	BEQ  begot
	CMP  $3, R21
	BNE  on
	CBZ  R0, exit          // nobody is there any more
on:
	ADD  $64, R20
	B    next

begot:
	CBZ  R0, on            // this is the child
	MOVW R0, 12(RSP)
	B    tell

failed:
	CMP  $4, R21           // Tries
	BEQ  on
	NEG  R0, R0
	MOVD 48(R20), R9
	CMP  $2, R0            // ENOENT
	BEQ  missing
	CMP  $20, R0           // ENOTDIR
	BEQ  missing
	MOVW R9, 0(RSP)
	MOVW R0, 4(RSP)
	CMP  $13, R0           // EACCES
	BEQ  another
	B    giveUp
missing: // of several files, one that is there says more than one that is not
	MOVWU 4(RSP), R10
	CBNZ R10, another
	MOVW R9, 0(RSP)
	MOVW R0, 4(RSP)
another:
	CMP  $1, R21           // OrNext
	BEQ  on
giveUp:
	MOVD $1, R10
	MOVW R10, 8(RSP)
tell:
	MOVD $write, R8
	MOVD 0(R19), R0
	MOVD RSP, R1
	MOVD $16, R2
	SVC
exit:
	MOVWU 8(RSP), R0
	MOVD $exit_group, R8
	SVC

TEXT ·afterChild(SB), NOSPLIT|NOFRAME, $0
	RET
