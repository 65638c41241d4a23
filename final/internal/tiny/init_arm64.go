package tiny

// See EM_AARCH64 in elf(5), and syscalls(2).
const machine, memfdCreate = 183, 279

// Setns is the number of setns(2), which package syscall may lack.
const Setns = 268
