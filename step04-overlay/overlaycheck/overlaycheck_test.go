//go:build linux

package overlaycheck

import "testing"

// Numbers as the kernel's linux/magic.h has them.
func TestKindsOfHomesAreNamed(t *testing.T) {
	for magic, want := range map[int64]string{0x6969: "NFS", 0xf15f: "eCryptfs", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x65735546: "FUSE", 0x1234: "a file system of kind 0x1234"} {
		if got := kind(magic); got != want {
			t.Errorf("kind(%#x) = %q, want %q", magic, got, want)
		}
	}
}
