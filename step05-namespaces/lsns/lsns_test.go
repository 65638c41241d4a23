//go:build linux

package lsns_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/lsns"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

func TestMain(m *testing.M) { os.Exit(testroot.Run(m)) }

func create(spec *specs.Spec, stdin io.Reader) (*namespaces.Process, error) {
	return namespaces.Create(spec, terminal.New(spec.Process, terminal.Stdio{Stdin: stdin}))
}

func TestListIsWhatLsnsSays(t *testing.T) {
	if _, err := exec.LookPath("lsns"); err != nil {
		t.Fatal("lsns is missing; install util-linux")
	}
	f := testroot.Mount(t)
	r, w := io.Pipe()
	p, err := create(namespaces.Spec(f.Mnt(), "x", []string{"cat"}), r)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	defer w.Close()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	// Other processes come and go, so look at the rows of this container, whose process stays.
	ours := func(line string) bool { return strings.Contains(line, " "+strconv.Itoa(p.Pid)+" ") }
	var out []byte
	for range 100 { // lsns fails if one of them goes while it looks
		out, err = exec.Command("lsns", "--list", "--noheadings", "--notruncate", "--output", "NS,TYPE,NPROCS,PID,USER,COMMAND").Output()
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		if ours(line) {
			want = append(want, strings.Join(strings.Fields(line), " "))
		}
	}
	list, err := lsns.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ns := range list {
		line := fmt.Sprintf("%d %s %d %d %s %s", ns.NS, ns.Type, ns.NProcs, ns.PID, ns.User, ns.Command)
		if ours(line) {
			got = append(got, line)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) != 6 || !slices.Equal(got, want) {
		t.Errorf("List = \n%s\nlsns says\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCompareShowsBothSides(t *testing.T) {
	f := testroot.Mount(t)
	p, err := create(namespaces.Spec(f.Mnt(), "x", []string{"true"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	var out bytes.Buffer
	if err := lsns.Compare(&out, os.Getpid(), p.Pid); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		if strings.Count(out.String(), " "+typ+" ") != 2 {
			t.Errorf("want two rows of %s in\n%s", typ, out.String())
		}
	}
	if !strings.Contains(out.String(), "both") {
		t.Errorf("want the user namespace to be of both in\n%s", out.String())
	}
}
