//go:build linux

package signame

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSignalsHaveTheNamesThatPeopleWrite(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"SIGTERM": unix.SIGTERM, "term": unix.SIGTERM, "15": unix.SIGTERM, "64": 64,
		"RTMIN": 34, "RTMIN+1": 35, "SIGRTMIN+3": 37, "sigrtmin+30": 64, "RTMAX": 64, "SIGRTMAX-1": 63, "RTMAX-30": 34,
	} {
		if got, err := Parse(text); got != want || err != nil {
			t.Errorf("Parse(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "65", "-1", "NONE", "RTMIN+", "RTMIN3", "RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMAX-31", "RTMIN++1", "RTMIN+-1"} {
		if got, err := Parse(text); !errors.Is(err, Err) {
			t.Errorf("Parse(%q) = %d, %v, want Err", text, got, err)
		}
	}
	for sig := unix.Signal(1); sig <= rtMax; sig++ {
		name := Of(sig)
		if got, err := Parse(name); name != "" && got != sig {
			t.Errorf("Parse(Of(%d)) = Parse(%q) = %d, %v", sig, name, got, err)
		}
	}
}
