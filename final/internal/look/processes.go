//go:build linux

package look

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osuser "os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// readProcesses shows processes as ps -ef does, with a row for the names of the columns: see proc_pid_stat(5). It leaves
// out a process that has ended in the meantime.
func readProcesses(pids []int) ([][]string, error) {
	booted, err := bootTime()
	if err != nil {
		return nil, err
	}
	rows := [][]string{{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}}
	now := time.Now()
	for _, pid := range pids {
		row, err := readProcess(pid, booted, now)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// tick is the unit of times in /proc, USER_HZ: the same for all programs, whatever the kernel's own is.
const tick = time.Second / 100

func readProcess(pid int, booted, now time.Time) ([]string, error) {
	proc := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return nil, err
	}
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return nil, err
	}
	cmdline, err := os.ReadFile(proc + "/cmdline")
	if err != nil {
		return nil, err
	}
	// The name in brackets may have brackets and blanks of its own. The text after it has none.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	name, fields := string(stat[open+1:end]), strings.Fields(string(stat[end+1:]))
	number := func(field int) int64 { // as the man page counts them
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return n
	}
	used := time.Duration(number(14)+number(15)) * tick
	started := booted.Add(time.Duration(number(22)) * tick)
	percent := int64(0)
	if alive := now.Sub(started) / time.Second; alive > 0 {
		percent = min(int64(used/(alive*time.Second/100)), 99)
	}
	command := strings.TrimRight(strings.ReplaceAll(string(cmdline), "\x00", " "), " ")
	if command == "" { // it has ended, and its parent has not asked for its status
		command = "[" + name + "]"
	}
	if fields[0] == "Z" {
		command += " <defunct>"
	}
	return []string{owner(status), strconv.Itoa(pid), fields[4-3], fmt.Sprint(percent), startTime(started, now), terminalName(int(number(7))), clock(used), command}, nil
}

func bootTime() (time.Time, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	_, after, _ := strings.Cut(string(stat), "\nbtime ")
	line, _, _ := strings.Cut(after, "\n")
	seconds, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("/proc/stat: btime: %w", err)
	}
	return time.Unix(seconds, 0), nil
}

// owner is the effective user, by the name that the host has for it.
func owner(status []byte) string {
	_, after, _ := strings.Cut(string(status), "\nUid:")
	line, _, _ := strings.Cut(after, "\n")
	uid := strings.Fields(line)[1]
	if u, err := osuser.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

func startTime(started, now time.Time) string {
	switch {
	case started.Year() != now.Year():
		return started.Format("2006")
	case started.YearDay() != now.YearDay():
		return started.Format("Jan02")
	}
	return started.Format("15:04")
}

// terminalName names a device: a container's are in its own /dev/pts, but the numbers are the same.
func terminalName(device int) string {
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	switch {
	case device == 0:
		return "?"
	case major == 136: // UNIX98_PTY_SLAVE_MAJOR: see the kernel's devices.txt
		return fmt.Sprint("pts/", minor)
	}
	return fmt.Sprintf("%d,%d", major, minor)
}

func clock(d time.Duration) string {
	s := int(d / time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}
