//go:build linux

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
)

const beStep = "GOCKER_TEST_BE_STEP"

func TestMain(m *testing.M) {
	if os.Getenv(beStep) != "" {
		main()
		return
	}
	testenv.Alone()
	os.Exit(m.Run())
}

func TestRunMountsChangesAndCleansUp(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t) // which sees that no mount and no container is left
	flags := []string{"--root", d.Root, "--run", d.Run}
	for _, again := range []bool{false, true} {
		var out bytes.Buffer
		if err := run(t.Context(), strings.NewReader(""), &out, flags); err != nil {
			t.Fatal(err)
		}
		const unpacks = "There is no image sample:latest yet: pulling and unpacking it, as step01 to step03 do\n"
		if strings.HasPrefix(out.String(), unpacks) == again {
			t.Errorf("run says\n%swant that it unpacks: %v", out.String(), !again)
		}
		testenv.InOrder(t, out.String(),
			"1. Mounting 4 layers of sample:latest over each other\n", d.Containers(), "has: ", "etc", "srv",
			"2. Where is a file from?\n", "/bin/sh ", "layer 1, sha256:", "/etc/motd ", "layer 3, sha256:", "/etc/passwd ", "layer 1, sha256:",
			"3. Adding /added", "/upperdir\n", "A /added", "regular file\n", "C /etc", "D /etc/group", "character device 0/0, a whiteout\n", "C /etc/passwd",
			"4. Unmounting", "\nnext: go run ./step05-namespaces sample\n")
	}
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out, append(flags, "sample", "/srv/draft", "/srv/menu/salad", "/nothing", "/srv/../etc/motd")); err != nil {
		t.Fatal(err)
	}
	testenv.InOrder(t, out.String(), "/srv/draft ", "no layer has it\n", "/srv/menu/salad ", "layer 4, ", "/nothing ", "no layer has it\n", "/srv/../etc/motd", "layer 3, ")
}

func TestExplainTellsWhatIsDoneWhenItIsDone(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out, []string{"--root", d.Root, "--run", d.Run, "--explain"}); err != nil {
		t.Fatal(err)
	}
	testenv.InOrder(t, out.String(), "1. Mounting", "\nmkdir -p "+d.Containers(), "\nln -s "+d.Images(), "\nmount -t overlay -o nodev,lowerdir="+d.Layers(), "2. Where",
		"4. Unmounting", "\numount -l "+d.Containers(), "\nrm -rf "+d.Containers(), "\nnext: ")
}

func TestAnOrdinaryUserMounts(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out, err := u.Command([]string{beStep + "=1"}, "/proc/self/exe", "sample", "/srv/draft", "/srv/menu/salad").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	testenv.InOrder(t, string(out), "0. User 61234 is not root", "1. Mounting 4 layers of sample:latest over each other\n",
		"/srv/draft ", "no layer has it\n", "/srv/menu/salad ", "layer 4, ", "D /etc/group", "character device 0/0, a whiteout\n", "4. Unmounting")
}
