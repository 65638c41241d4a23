package runtime_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/testroot"
)

// The same filter for calls of other architectures would let through what it should not: their numbers differ.
func TestCallsOfOtherArchitecturesPassNoFilter(t *testing.T) {
	f := testroot.Mount(t)
	program := filepath.Join(f.Mnt(), "tmp", "program")
	for _, tt := range []struct {
		name             string
		code             []byte
		unfiltered, want int
	}{
		// mov eax, 1; mov ebx, 7; int 0x80: the 32-bit exit(7), which is 64-bit write(7, …)
		{"int 0x80", []byte{0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80}, 7, 128 + 31}, // SIGSYS
		// mov eax, 0x4000003c; mov edi, 7; syscall; mov eax, 60; mov edi, 9; syscall: x32's exit(7), and if there is none, exit(9)
		{"x32", []byte{0xb8, 0x3c, 0, 0, 0x40, 0xbf, 7, 0, 0, 0, 0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0xbf, 9, 0, 0, 0, 0x0f, 0x05}, 0, 9},
	} {
		if err := os.WriteFile(program, testenv.ELF(tt.code), 0o755); err != nil {
			t.Fatal(err)
		}
		spec := sh(f, "/tmp/program")
		if _, got := output(t, f, spec); tt.unfiltered != 0 && got != tt.unfiltered {
			t.Errorf("%s without a filter ended with %d, want %d", tt.name, got, tt.unfiltered)
		}
		spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"ptrace"}, Action: specs.ActErrno},
		}}
		if _, got := output(t, f, spec); got != tt.want {
			t.Errorf("%s with a filter ended with %d, want %d", tt.name, got, tt.want)
		}
	}
}
