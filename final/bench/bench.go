//go:build linux

// Package bench is what the comparisons below it share.
package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Median is the middle one of the values, of which there is at least one.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// MedianRatio is the median of ours / theirs, round by round: what the machine did beside it, it did to both.
func MedianRatio(ours, theirs []float64) float64 {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	return Median(ratios)
}

// Do runs a command that is not measured. Its output goes to no pipe of ours: a container that stays would hold it open.
func Do(args ...string) error { return do(Contender{Args: args}.Command()) }

// Gocker puts the program to measure into a folder, where other users can execute it: a copy of a file, or, without a name, one
// that is built of these sources.
func Gocker(dir, file string) (program string, err error) {
	program = filepath.Join(dir, "gocker")
	if file != "" {
		return program, Do("cp", file, program)
	}
	return program, Do("env", "CGO_ENABLED=0", "go", "build", "-o", program, "gocker/final")
}

func do(cmd *exec.Cmd) error {
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}

// OwnMounts gives this thread, and all that it starts, mounts of its own, with an empty /run in memory.
func OwnMounts() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace (this needs root): %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on /run: %w", err)
	}
	unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH) // where it is missing, all is well
	return nil
}

// A Contender is a command that is measured.
type Contender struct {
	Name string
	Args []string
	As   *User // nil: the user of this program
}

// Command is it, ready to be started.
func (c Contender) Command() *exec.Cmd {
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Stderr = os.Stderr
	if c.As != nil {
		cmd.Dir, cmd.Env = c.As.Home, c.As.env
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: userID, Gid: userID}}
	}
	return cmd
}

// Starts prints a table of how long each takes. The first contender is the one that the others are compared with.
func Starts(rounds int, contenders []Contender) error {
	wall, cpu := make([][]float64, len(contenders)), make([][]float64, len(contenders)) // in ms
	for round := range rounds + 2 {
		for turn := range contenders {
			i := (round + turn) % len(contenders)
			w, c, err := once(contenders[i])
			if err != nil {
				return err
			}
			if round >= 2 { // the first ones only fill the caches
				wall[i], cpu[i] = append(wall[i], w), append(cpu[i], c)
			}
		}
	}
	fmt.Printf("%-22s  %9s  %9s  %s\n", fmt.Sprintf("median of %d", rounds), "wall", "CPU", "ours / theirs: wall, CPU")
	for i, c := range contenders {
		fmt.Printf("%-22s  %6.2f ms  %6.2f ms  %.3f  %.3f\n", c.Name, Median(wall[i]), Median(cpu[i]),
			MedianRatio(wall[0], wall[i]), MedianRatio(cpu[0], cpu[i]))
	}
	fmt.Println()
	return nil
}

func once(c Contender) (wall, cpu float64, err error) {
	cmd := c.Command()
	began := time.Now()
	err = do(cmd)
	took := time.Since(began)
	if err != nil {
		return 0, 0, err
	}
	return ms(took), ms(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
