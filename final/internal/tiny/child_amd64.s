#include "textflag.h"

// See init_amd64.s.
#define write 1
#define exit_group 231

DATA ·childBegin(SB)/8, $·child(SB)
GLOBL ·childBegin(SB), NOPTR, $8
DATA ·childEnd(SB)/8, $·afterChild(SB)
GLOBL ·childEnd(SB), NOPTR, $8

TEXT ·child(SB), NOSPLIT|NOFRAME, $0
	MOVQ $0x401000, BX     // the number of its socket, and behind it the calls: see Child
	LEAQ 8(BX), R12
	SUBQ $24, SP           // what it says, as package birth has it: call, error, "gave up", pid; at 16 what it reads
	MOVQ $0, 0(SP)
	MOVQ $0, 8(SP)

next:
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	MOVQ 32(R12), R10
	MOVQ 40(R12), R8
	MOVQ 56(R12), R13      // what is special about it
	CMPQ R13, $3           // Waits
	JNE  call
	LEAQ 16(SP), SI
call:
	SYSCALL
	TESTQ AX, AX
	JLT  failed
	CMPQ R13, $2           // Begets
	JEQ  begot
	CMPQ R13, $3
	JNE  on
	TESTQ AX, AX
	JEQ  exit              // nobody is there any more
on:
	ADDQ $64, R12
	JMP  next

begot:
	TESTQ AX, AX
	JEQ  on                // this is the child
	MOVL AX, 12(SP)
	JMP  tell

failed:
	CMPQ R13, $4           // Tries
	JEQ  on
	NEGQ AX
	CMPQ AX, $2            // ENOENT
	JEQ  missing
	CMPQ AX, $20           // ENOTDIR
	JEQ  missing
	MOVQ 48(R12), CX
	MOVL CX, 0(SP)
	MOVL AX, 4(SP)
	CMPQ AX, $13           // EACCES
	JEQ  another
	JMP  giveUp
missing: // of several files, one that is there says more than one that is not
	CMPL 4(SP), $0
	JNE  another
	MOVQ 48(R12), CX
	MOVL CX, 0(SP)
	MOVL AX, 4(SP)
another:
	CMPQ R13, $1           // OrNext
	JEQ  on
giveUp:
	MOVL $1, 8(SP)
tell:
	MOVQ $write, AX
	MOVQ 0(BX), DI
	MOVQ SP, SI
	MOVQ $16, DX
	SYSCALL
exit:
	MOVQ $exit_group, AX
	MOVL 8(SP), DI
	SYSCALL

TEXT ·afterChild(SB), NOSPLIT|NOFRAME, $0
	RET
