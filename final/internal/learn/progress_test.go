//go:build linux

package learn

import (
	"os"
	"testing"
)

func TestProgressIsTheLastReportOfEachStep(t *testing.T) {
	root := t.TempDir()
	wantNext := func(want string) {
		t.Helper()
		all, err := Progress(root)
		if err != nil || len(all) != len(steps()) {
			t.Fatalf("Progress = %v, %v; want a report for each of %d steps", all, err, len(steps()))
		}
		if got := next(all); got != want {
			t.Errorf("next = %q, want %q", got, want)
		}
	}
	keep := func(step, passed int, program ...string) {
		t.Helper()
		if err := Keep(root, Report{Step: step, Program: program, Passed: passed, Cases: 12}); err != nil {
			t.Fatal(err)
		}
	}
	wantNext("gocker learn new DIR")
	keep(2, 3, "/bin/python3", "untar.py")
	wantNext("gocker learn check 1 /bin/python3 untar.py")
	keep(1, 12, "/home/P")
	wantNext("gocker learn check 2 /bin/python3 untar.py")
	keep(2, 12, "/home/P")
	wantNext("gocker learn check 3 /home/P")
	for step := range steps() {
		keep(step, 12, "/home/P")
	}
	wantNext("")
	if err := os.WriteFile(kept(root, 4), []byte(`{"step":`), 0o644); err != nil { // as after a crash of the machine
		t.Fatal(err)
	}
	wantNext("gocker learn check 4 /home/P")
}
