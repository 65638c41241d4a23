package tiny

// See EM_X86_64 in elf(5), and syscalls(2).
const machine, memfdCreate = 62, 319

// Setns is the number of setns(2), which package syscall may lack.
const Setns = 308
