package cli_test

import "gocker/step01-pull/shared/testenv"

// Programs for system calls that no program of the image makes: those for one call end with its errno.
func init() {
	exit := []byte{0xf7, 0xd8, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05} // neg eax; mov edi, eax; mov eax, 60; syscall
	socket := func(family byte) []byte {
		// mov eax, 41; mov edi, family; mov esi, SOCK_SEQPACKET; xor edx, edx; syscall
		return append([]byte{0xb8, 41, 0, 0, 0, 0xbf, family, 0, 0, 0, 0xbe, 5, 0, 0, 0, 0x31, 0xd2, 0x0f, 0x05}, exit...)
	}
	// mov eax, 157; mov edi, 1; xor esi, esi; syscall; mov eax, 34; syscall: prctl(PR_SET_PDEATHSIG, 0), pause()
	programs["unbound"] = testenv.ELF([]byte{0xb8, 157, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x31, 0xf6, 0x0f, 0x05, 0xb8, 34, 0, 0, 0, 0x0f, 0x05})
	programs["socket-alg"] = testenv.ELF(socket(38))
	programs["socket-vsock"] = testenv.ELF(socket(40))
	// mov eax, 1; mov ebx, 7; int 0x80: the 32-bit exit(7)
	programs["int80"] = testenv.ELF([]byte{0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80})
}
