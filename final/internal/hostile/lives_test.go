//go:build linux

package hostile

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
)

// evil has a character that begins what a terminal obeys, in one byte and as U+009B, one that turns the text after it around,
// and those that begin a line anew.
const evil = "\x1b[2J\u009b2J\u202e\x7f\r\nB"

// lives are attacks on the commands for a container that runs.
func lives() []attack {
	return []attack{
		{name: "labels, variables, commands and files of escape sequences", image: running(func(c *v1.Config) {
			c.Labels = map[string]string{"key" + evil: "value" + evil}
			c.Env = append(c.Env, "KEY"+evil+"=value"+evil)
		}, dir("srv/"+evil)), then: lookAtEvil},
		{name: "passwd and group that become a gigabyte", image: running(nil), then: func(h *house, name string) {
			id := h.start(name)
			for file, flag := range map[string]string{"/etc/passwd": "guest", "/etc/group": "0:guest"} {
				h.must("exec", id, "dd", "if=/dev/null", "of="+file, "bs=1", "seek=1G", "status=none")
				out, status := h.gocker("final", "exec", "-u", flag, id, "true")
				if status != 126 || !strings.Contains(out, file+" of the image: it has 1073741824 bytes") {
					h.t.Errorf("exec -u %s with %s of a gigabyte ended with %d:\n%s", flag, file, status, out)
				}
				h.must("exec", id, "rm", file)
			}
			h.must("rm", "-f", id)
		}},
		{name: "folder that becomes a link, and a folder again", image: running(nil), then: swap},
	}
}

// start runs a container in the background. The rest of its command is given to sh.
func (h *house) start(name string, args ...string) (id string) {
	h.t.Helper()
	id = strings.TrimSpace(h.must(h.run("-d", append([]string{name, "sh", "-c", `printf %s "$1" >/proc/$$/comm; sleep 1000 & wait`, "sh"}, args...)...)...))
	h.t.Cleanup(func() { h.gocker("final", "rm", "-f", id) })
	return id
}

// must is what a command prints that has to go well.
func (h *house) must(args ...string) string {
	h.t.Helper()
	out, status := h.gocker("final", args...)
	if status != 0 {
		h.t.Fatalf("gocker %q ended with %d:\n%s", args, status, out)
	}
	return out
}

// lookAtEvil has all commands print it that show something of a container or an image. h.gocker looks at what they print.
func lookAtEvil(h *house, name string) {
	id := h.start(name, evil)
	h.must("exec", id, "touch", "/tmp/"+evil)
	h.must("volume", "create", "--label", "key"+evil+"=value"+evil, "volume")
	pause := "--pause=true"
	if h.user != nil { // who has no cgroup here, and so nothing to pause
		pause = "--pause=false"
	}
	h.must("commit", pause, "-m", evil, "-a", evil, id, "committed")
	out := h.must("inspect", id)
	var inspected []struct {
		Config struct {
			Labels map[string]string
			Env    []string
		}
		Args []string
	}
	if err := json.Unmarshal([]byte(out), &inspected); err != nil {
		h.t.Fatal(err)
	}
	if c := inspected[0]; c.Config.Labels["key"+evil] != "value"+evil || c.Args[len(c.Args)-1] != evil ||
		!strings.Contains(strings.Join(c.Config.Env, " "), "KEY"+evil+"=value"+evil) {
		h.t.Errorf("inspect has %+v, want the label, variable and argument as they are", c)
	}
	if _, err := exec.LookPath("ps"); err == nil {
		h.must("top", id, "-eo", "pid,comm,args")
	}
	if h.user == nil {
		h.must("stats", "--no-stream", id)
	}
	for _, args := range [][]string{
		{"ps", "-a"}, {"ps", "--no-trunc", "--format", "{{.Labels}} {{.Command}}"}, {"ps", "--format", "json"},
		{"inspect", id, "--format", "{{.Config.Labels}} {{range .Config.Env}}{{.}}{{println}}{{end}}{{json .Args}}"},
		{"top", id}, {"lsns", id}, {"why", id},
		{"diff", id}, {"layers", id}, {"layers", id, "--format", "json"},
		{"events", "--since", "1h", "--until", "0s"}, {"events", "--since", "1h", "--until", "0s", "--format", "json"},
		{"events", "--since", "1h", "--until", "0s", "--format", "{{.Actor.Attributes}}"},
		{"images"}, {"history", "committed"}, {"history", "--no-trunc", "--format", "json", "committed"},
		{"image", "inspect", "committed"}, {"image", "inspect", "committed", "--format", "{{.Config.Env}} {{.Author}}"},
		{"image", "files", "committed", "/srv"}, {"image", "layers", "committed"},
		{"volume", "ls", "--format", "{{.Labels}}"}, {"volume", "ls", "--format", "json"},
		{"volume", "inspect", "volume"}, {"volume", "inspect", "volume", "--format", "{{.Labels}}"},
		h.run("--rm", "--explain=sh", name, "true", evil),
	} {
		h.must(args...)
	}
	// Errors name what is wrong.
	for _, args := range [][]string{
		{"exec", id, "/none" + evil}, {"exec", "-w", "/etc/passwd/" + evil, id, "true"}, {"exec", "-u", evil, id, "true"},
		{"run", "--rm", evil}, {"run", "--rm", "-v", "/none:/a" + evil + ":" + evil, name}, {"run", "--rm", "--platform", evil, name, "true"}, {"run", "--rm", "--sysctl", evil, name},
		{"inspect", evil}, {"cp", id + ":/none" + evil, "none"}, {"commit", "-c", "LABEL " + evil, id}, {"ps", "--filter", evil}, {evil},
		{"volume", "create", evil}, {"tag", "committed", evil}, {"save", "-o", "/none/" + evil, "committed"},
	} {
		if out, status := h.gocker("final", args...); status == 0 {
			h.t.Errorf("gocker %q ended with 0:\n%s", args, out)
		}
	}
	h.must("rm", "-f", id)
	h.must("rmi", "committed")
	h.must("volume", "rm", "volume")
}

// swap exchanges a folder and a link that leads out, as fast as can be, while gocker looks at it from outside, and while
// containers with it begin. What the commands end with is by chance.
func swap(h *house, name string) {
	id := h.start(name)
	pid := strings.TrimSpace(h.must("inspect", "--format", "{{.State.Pid}}", id))
	h.must("exec", id, "mkdir", "/door") // not the image's: folders of layers below are not exchanged
	h.must("exec", id, "touch", "/door/mine")
	h.must("exec", id, "ln", "-s", h.outside, "/link")
	h.must("volume", "create", "shared")
	shared := filepath.Join(h.store.Root, "volumes/shared/_data")
	if err := os.Mkdir(filepath.Join(shared, "door"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Symlink(h.outside, filepath.Join(shared, "link")); err != nil {
		h.t.Fatal(err)
	}
	h.give(filepath.Join(shared, "door"), filepath.Join(shared, "link"))
	var swaps [2]atomic.Int64
	for i, dir := range []string{filepath.Join("/proc", pid, "root"), shared} {
		done, stopped := make(chan bool), make(chan bool)
		defer func() { close(done); <-stopped }()
		go func() {
			defer close(stopped)
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := unix.Renameat2(unix.AT_FDCWD, dir+"/door", unix.AT_FDCWD, dir+"/link", unix.RENAME_EXCHANGE); err == nil {
					swaps[i].Add(1)
				}
				runtime.Gosched()
			}
		}()
	}
	into := filepath.Join(h.base, "store", "into")
	if err := os.Mkdir(into, 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.give(into)
	for range 5 {
		for _, args := range [][]string{
			{"diff", id}, {"layers", id}, {"commit", "--pause=false", id, "raced"}, {"commit", id, "raced"},
			{"cp", id + ":/door/.", into}, {"cp", "/etc/hostname", id + ":/door/new"},
			{"exec", "-w", "/door/made", id, "touch", "here"},
			h.run("--rm", "-v", "shared:/v", "--tmpfs", "/v/door/in", "-v", "/v/door/new", "-w", "/v/door/made", name, "touch", "here", "/v/door/in/here"),
		} {
			if out, _ := h.gocker("final", args...); strings.Contains(out, "secret") {
				h.t.Errorf("gocker %q tells of the host:\n%s", args, out)
			}
		}
		h.untouched()
	}
	for i := range swaps {
		if n := swaps[i].Load(); n < 100 {
			h.t.Errorf("there were %d exchanges meanwhile, want at least 100", n)
		}
	}
	if files := h.files(); strings.Contains(files, "keep out") {
		h.t.Errorf("an image has a file of the host: %s", files)
	}
	if left := testenv.Tree(h.t, into); strings.Contains(left, "secret") {
		h.t.Errorf("cp took a file of the host for the container's:\n%s", left)
	}
	h.must("rm", "-f", id)
	h.must("image", "prune", "-a", "-f", "--filter", "dangling=true")
	h.gocker("final", "rmi", "raced")
	h.must("volume", "rm", "shared")
}
