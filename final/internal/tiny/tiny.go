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
package tiny

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"unsafe"
)

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

// Where a file is in the memory of its process, and how long its headers are: the code is behind them.
const (
	address = 0x400000
	headers = 64 + 56
)

func file(code []byte) []byte {
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Phnum: 1,
	}
	segment := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: address, Paddr: address, Align: 0x10000}
	header.Ehsize, header.Phentsize = uint16(binary.Size(header)), uint16(binary.Size(segment))
	header.Phoff, header.Entry = uint64(header.Ehsize), address+headers
	segment.Filesz = uint64(headers + len(code))
	segment.Memsz = segment.Filesz
	var file bytes.Buffer
	binary.Write(&file, binary.LittleEndian, header) // a Buffer takes all
	binary.Write(&file, binary.LittleEndian, segment)
	file.Write(code)
	return file.Bytes()
}
