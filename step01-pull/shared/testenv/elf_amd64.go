package testenv

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// ELF is a program that is nothing but this machine code: for system calls that no program of the image makes.
func ELF(code []byte) []byte {
	const address, headers = 0x400000, 64 + 56
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: address + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	})
	size := uint64(headers + len(code))
	binary.Write(&b, binary.LittleEndian, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: address, Paddr: address, Filesz: size, Memsz: size, Align: 0x1000,
	})
	b.Write(code)
	return b.Bytes()
}
