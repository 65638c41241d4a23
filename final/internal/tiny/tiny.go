//go:build linux

// Package tiny is a program of some hundred bytes to be PID 1 of a container, for "run --init".
//
// PID 1 has two duties that most programs do not know of. Processes whose parents end become its children, and stay as
// zombies until it waits for them. And the kernel keeps signals from it that it has no handler for, so SIGTERM does not
// end it. So this one stands in front: it starts the command, passes on each signal that it gets, waits for every child,
// and ends when the command does, with its status.
//
// It is a page of assembler because it lives as long as the container, in it: its memory counts there, and its threads
// count as processes. The same in Go has four threads and half a megabyte of its own; this has one, and its stack.
// The assembler is this package's, never executed by gocker itself; Init puts it into the smallest ELF file that the
// kernel takes: see elf(5).
//
//	init PATH ARG0 [ARG…]     executes the file PATH, which sees ARG0 and so on as its arguments
package tiny

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"unsafe"
)

// The first and the last byte of the code: see init_*.s.
var begin, end unsafe.Pointer

// Init is the program, as a file.
func Init() []byte {
	code := unsafe.Slice((*byte)(begin), uintptr(end)-uintptr(begin))
	const address = 0x400000
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Phnum: 1,
	}
	segment := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: address, Paddr: address, Align: 0x10000}
	header.Ehsize, header.Phentsize = uint16(binary.Size(header)), uint16(binary.Size(segment))
	headers := uint64(header.Ehsize + header.Phentsize)
	header.Phoff, header.Entry = uint64(header.Ehsize), address+headers
	segment.Filesz = headers + uint64(len(code))
	segment.Memsz = segment.Filesz
	var file bytes.Buffer
	binary.Write(&file, binary.LittleEndian, header) // a Buffer takes all
	binary.Write(&file, binary.LittleEndian, segment)
	file.Write(code)
	return file.Bytes()
}
