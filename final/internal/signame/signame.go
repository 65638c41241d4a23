//go:build linux

// Package signame has the names of signals, as people write them: those of signal(7), and the real-time signals, which
// systemd asks for, as the C library counts them.
package signame

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// Err is the error of Parse.
var Err = errors.New("no such signal")

// The kernel has real-time signals from 32 on. The C library keeps the first two for its threads.
const (
	rtMin = 34
	rtMax = 64
)

// Parse reads "SIGTERM", "TERM", "15", "RTMIN+3" or "SIGRTMAX-1".
func Parse(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= rtMax {
		return unix.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	if sig := realTime(name); rtMin <= sig && sig <= rtMax {
		return unix.Signal(sig), nil
	}
	return 0, advice.Add(fmt.Errorf("%w: %q", Err, s), "signals are those of signal(7), by name or number")
}

// realTime reads RTMIN, RTMIN+n, RTMAX or RTMAX-n; 0 is none of them.
func realTime(name string) int {
	from, offset, sign := rtMin, "", 1
	if rest, ok := strings.CutPrefix(name, "RTMIN"); ok {
		offset = strings.TrimPrefix(rest, "+")
	} else if rest, ok := strings.CutPrefix(name, "RTMAX"); ok {
		from, offset, sign = rtMax, strings.TrimPrefix(rest, "-"), -1
	} else {
		return 0
	}
	if name == "RTMIN" || name == "RTMAX" {
		return from
	}
	n, err := strconv.ParseUint(offset, 10, 8)
	if err != nil || !strings.ContainsAny(name, "+-") {
		return 0
	}
	return from + sign*int(n)
}

// Of is a signal's name: "SIGTERM", "SIGRTMIN+3"; of one without a name it is "".
func Of(sig syscall.Signal) string {
	if rtMin <= sig && sig <= rtMax {
		return strings.TrimSuffix(fmt.Sprintf("SIGRTMIN+%d", sig-rtMin), "+0")
	}
	return unix.SignalName(sig)
}
