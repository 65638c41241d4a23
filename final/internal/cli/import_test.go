//go:build linux

package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
)

func TestWhatIsExportedCanBeImported(t *testing.T) {
	testenv.NeedRoot(t)
	d := emptyDirs(t)
	mustGocker(t, d, "pull", "-q", "sample")
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "secret"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	mustGocker(t, d, "run", "-d", "--name", "cc", "-v", host+":/host", "sample", "sh", "-c", `mkdir /new; echo one >/new/one; ln /new/one /new/two
		ln -s one /new/link; chown 12:34 /new/one; rm /etc/motd; : >/new/done; exec sleep 1000`)
	mustGocker(t, d, "exec", "cc", "sh", "-c", "until [ -e /new/done ]; do sleep 0.1; done")
	file := filepath.Join(t.TempDir(), "files.tar")
	mustGocker(t, d, "export", "-o", file, "cc")
	mustGocker(t, d, "rm", "-f", "-t", "0", "cc")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := " " + strings.Join(testenv.Names(t, bytes.NewReader(raw)), " ") + " "
	for _, name := range []string{"new/one", "new/two", "new/link", "host/", "proc/", "dev/", "etc/passwd", "etc/hosts"} {
		if !strings.Contains(names, " "+name+" ") {
			t.Errorf("the archive does not have %s: %s", name, names)
		}
	}
	for _, name := range []string{"host/secret", "etc/motd", "dev/null", "proc/self"} {
		if strings.Contains(names, " "+name+" ") {
			t.Errorf("the archive has %s", name)
		}
	}
	id := mustGocker(t, d, "import", "--change", `CMD ["sh", "-c", "cat /new/two; stat -c %u:%g:%h /new/one"]`, "--change", "ENV A=b", "-m", "by a test", file, "imported:v1")
	if got := mustGocker(t, d, "run", "--rm", "imported:v1"); got != "one\n12:34:2\n" {
		t.Errorf("run of the image wrote %q", got)
	}
	testenv.InOrder(t, mustGocker(t, d, "history", "--no-trunc", "imported:v1"), strings.TrimSpace(id), "by a test")
	testenv.InOrder(t, mustGocker(t, d, "image", "inspect", "-f", "{{.Config.Env}} {{.Architecture}} {{len .RootFS.Layers}}", "imported:v1"), "[A=b]", " 1")
	stdin := exec.Command("sh", "-c", "gzip <"+file+" | gocker --root "+d.Root+" --run "+d.Run+" image import --platform arm64 - other")
	if output, err := stdin.CombinedOutput(); err != nil {
		t.Errorf("import -: %v\n%s", err, output)
	}
	testenv.InOrder(t, mustGocker(t, d, "image", "inspect", "-f", "{{.Architecture}}", "other"), "arm64")
	for what, content := range map[string][]byte{"nothing": nil, "text": []byte("text\n"), "half an archive": raw[:len(raw)/2]} {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if output, err := gocker(t, d, "import", file, "broken"); err == nil || !strings.Contains(output, "tar archive") {
			t.Errorf("import of %s: %v, want it to fail:\n%s", what, err, output)
		}
	}
	mustGocker(t, d, "system", "check")
}

func TestAllTagsOfARepositoryGoAndCome(t *testing.T) {
	testenv.NeedRoot(t)
	address, d := testenv.Registry(t, nil), emptyDirs(t)
	mustGocker(t, d, "pull", "-q", "sample")
	name := address + "/team/app"
	for _, tag := range []string{"v1", "v2", "latest"} {
		mustGocker(t, d, "tag", "sample", name+":"+tag)
	}
	testenv.InOrder(t, mustGocker(t, d, "push", "-a", name), "latest: digest: ", "v1: digest: ", "v2: digest: ")
	other := emptyDirs(t)
	mustGocker(t, other, "pull", "--all-tags", "-q", name)
	if got := mustGocker(t, other, "images", "--format", "{{.Tag}}"); len(strings.Fields(got)) != 3 {
		t.Errorf("pull -a has brought %q, want three tags", got)
	}
	for _, args := range [][]string{{"pull", "-a", name + ":v1"}, {"push", "-a", name + ":v1"}, {"push", "-a", address + "/none"}, {"pull", "-a", address + "/none"}} {
		if output, err := gocker(t, d, args...); err == nil {
			t.Errorf("gocker %s ended well:\n%s", strings.Join(args, " "), output)
		}
	}
}
