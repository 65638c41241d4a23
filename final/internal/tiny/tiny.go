//go:build linux

// Package tiny has programs of some hundred bytes. Two live as long as a container.
//
// Init is to be PID 1 of a container, for "run --init". PID 1 has two duties that most programs do not know of. Processes
// whose parents end become its children, and stay as zombies until it waits for them. And the kernel keeps signals from it
// that it has no handler for, so SIGTERM does not end it. So this one stands in front: it starts the command, passes on each
// signal that it gets, waits for every child, and ends when the command does, with its status.
//
//	init PATH ARG0 [ARG…]     executes the file PATH, which sees ARG0 and so on as its arguments
//
// Guard stands outside of a container. Its file 0 is a socket. A pidfd comes from there, and when the other end is closed,
// Guard kills that process. See unix(7) and pidfd_send_signal(2).
//
// Child is executed for a moment before a command, if others may look into its process: it has nothing of gocker's.
//
// They are pages of assembler because of what they cost. The same in Go has four threads and half a megabyte of its own;
// these have one, and its stack. Init's count for the container. The assembler is this package's, never executed by gocker
// itself: it is put into the smallest ELF file that the kernel takes. See elf(5).
//
// This package imports little: one of these programs is executed before most of gocker's packages have begun. See package enter.
package tiny

import "unsafe"

// The first byte of each program's code, and the first one after it: see init_*.s, guard_*.s and child_*.s.
var begin, end, guardBegin, guardEnd, childBegin, childEnd unsafe.Pointer

// InitPath is where a container has Init.
const InitPath = "/dev/init"

// Init is the program for PID 1, as a file.
func Init() []byte { return file(code(begin, end)) }

// Guard is the program that kills a process, as a file.
func Guard() []byte { return file(code(guardBegin, guardEnd)) }

func code(begin, end unsafe.Pointer) []byte {
	return unsafe.Slice((*byte)(begin), uintptr(end)-uintptr(begin))
}

// Where a file is in the memory of its process, and how long its header is: the code is behind it.
const (
	address = 0x400000
	headers = unsafe.Sizeof(header{})
)

// A header is Elf64_Ehdr of elf(5), and behind it one Elf64_Phdr. All machines that have these programs are little-endian.
type header struct {
	ident                                                [16]byte
	kind, machine                                        uint16
	version                                              uint32
	entry, phoff, shoff                                  uint64
	flags                                                uint32
	ehsize, phentsize, phnum, shentsize, shnum, shstrndx uint16
	segment                                              segment
}

type segment struct {
	kind, flags                                    uint32
	offset, vaddr, paddr, filesz, memsz, alignment uint64
}

func file(code []byte) []byte {
	const executable, load, readable, canExecute = 2, 1, 4, 1 // ET_EXEC, PT_LOAD, PF_R, PF_X
	size := uint64(headers) + uint64(len(code))
	own := uint64(unsafe.Sizeof(segment{}))
	h := header{
		ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, // ELFCLASS64, ELFDATA2LSB, EV_CURRENT
		kind:  executable, machine: machine, version: 1, entry: address + uint64(headers),
		phoff: uint64(headers) - own, ehsize: uint16(uint64(headers) - own), phentsize: uint16(own), phnum: 1,
		segment: segment{kind: load, flags: readable | canExecute, vaddr: address, paddr: address, filesz: size, memsz: size, alignment: 0x10000},
	}
	return append(unsafe.Slice((*byte)(unsafe.Pointer(&h)), headers), code...)
}

// raw are numbers as memory has them.
func raw(words []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), 8*len(words))
}
