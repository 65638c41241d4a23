//go:build linux

package devices_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/cgrouptest"
	"gocker/step06-cgroups/devices"
)

func TestMain(m *testing.M) {
	cgrouptest.Main(m, map[string]func([]string) error{"open": openNodes})
}

// openNodes makes device nodes, "c:1:3:r", in a folder, opens each to read or write, and prints what the kernel says.
func openNodes(args []string) error {
	dir := args[0]
	// A file system that may have devices, and that nobody else sees.
	runtime.LockOSThread()
	if err := errors.Join(
		unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", dir, "tmpfs", 0, ""),
	); err != nil {
		return err
	}
	for i, arg := range args[1:] {
		parts := strings.Split(arg, ":")
		mode := map[string]uint32{"c": unix.S_IFCHR, "b": unix.S_IFBLK}[parts[0]]
		major, err1 := strconv.Atoi(parts[1])
		minor, err2 := strconv.Atoi(parts[2])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		node := filepath.Join(dir, strconv.Itoa(i))
		if err := unix.Mknod(node, mode|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))); err != nil {
			fmt.Println("mknod:", err)
			continue
		}
		flags := map[string]int{"r": unix.O_RDONLY, "w": unix.O_WRONLY, "rw": unix.O_RDWR}[parts[3]]
		fd, err := unix.Open(node, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		fmt.Println(err)
	}
	return nil
}

func TestOnlyListedDevicesAreOpened(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	var stat unix.Stat_t
	if err := unix.Stat(cgrouptest.Disk(t), &stat); err != nil {
		t.Fatal(err)
	}
	host := fmt.Sprintf("b:%d:%d:r", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	const yes, no = "<nil>", "operation not permitted"
	rule := func(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: access}
	}
	for _, tt := range []struct {
		name  string
		rules []specs.LinuxDeviceCgroup
		want  map[string]string
	}{
		{"the default list", []specs.LinuxDeviceCgroup{devices.DenyAll}, map[string]string{
			"c:1:3:rw": yes, "c:1:5:r": yes, "c:1:7:w": yes, "c:1:8:r": yes, "c:1:9:r": yes, // null, zero, full, random, urandom
			"c:1:1:r": no, "c:1:11:r": no, "c:5:1:w": no, "c:10:229:r": no, host: no, "b:1:3:r": no, // mem, kmsg, console, fuse, the disk
		}},
		{"one more device, to read", []specs.LinuxDeviceCgroup{devices.DenyAll, rule(true, "c", 1, 11, "r")}, map[string]string{
			"c:1:11:r": yes, "c:1:11:w": no, "c:1:11:rw": no, host: no,
		}},
		{"all minor numbers", []specs.LinuxDeviceCgroup{devices.DenyAll, rule(true, "c", 1, -1, "rwm")}, map[string]string{
			"c:1:11:r": yes, "c:1:11:w": yes, host: no,
		}},
		{"a part taken back", []specs.LinuxDeviceCgroup{devices.DenyAll, rule(true, "c", 1, 11, "rwm"), rule(false, "c", 1, 11, "w")}, map[string]string{
			"c:1:11:r": yes, "c:1:11:w": no, "c:1:11:rw": no,
		}},
		{"all", []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, map[string]string{"c:1:11:r": yes, host: yes}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cg := cgrouptest.Cgroup(t)
			if err := devices.Guard(cg, append(tt.rules, devices.Defaults()...)); err != nil {
				t.Fatal(err)
			}
			var nodes []string
			for node := range tt.want {
				nodes = append(nodes, node)
			}
			p := cgrouptest.Start(t, append([]string{"open", t.TempDir()}, nodes...)...)
			p.Begin(t, cgroups.Paths(cg)...)
			for _, node := range nodes {
				line, err := p.Stdout.ReadString('\n')
				if got := strings.TrimSpace(line); err != nil || got != tt.want[node] {
					t.Errorf("open %s: %q, %v; want %q", node, got, err, tt.want[node])
				}
			}
		})
	}
}
