//go:build linux

package cli_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gocker/final/internal/cli"
	"gocker/final/internal/engine"
	"gocker/step01-pull/shared/testenv"
)

// Where a file of the host may stand a shell offers files, and nowhere else; each flag's help says what its value is.
func TestAShellOffersFilesOnlyWhereFilesBelong(t *testing.T) {
	wantFiles := strings.Fields(`--cert-dir --cidfile --config --device --device-read-bps --device-read-iops --device-write-bps --device-write-iops --env-file
		--input --label-file --output --root --run --volume`)
	wantFileArgs := strings.Fields("gocker·cp gocker·container·cp gocker·import gocker·image·import")
	e := &engine.Engine{Dirs: testenv.Dirs(t)} // no container, and no image
	offers := func(words ...string) string {
		var out bytes.Buffer
		args := append([]string{cobra.ShellCompNoDescRequestCmd}, words...)
		cmd := cli.Command(e, args...)
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SetErr(io.Discard)
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		want := slices.Contains(wantFileArgs, strings.ReplaceAll(cmd.CommandPath(), " ", "·"))
		if got := offers(append(path, "")...); strings.HasSuffix(got, ":0\n") != want || strings.HasSuffix(got, ":1\n") {
			t.Errorf("%s: a shell gets %q, want files: %v", cmd.CommandPath(), got, want)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal != "" {
				return
			}
			flag := "--" + f.Name
			switch got := offers(append(slices.Clone(path), flag, "")...); {
			case strings.HasSuffix(got, ":1\n"):
				t.Errorf("%s %s: nothing is known of its value; say it in complete.go", cmd.CommandPath(), flag)
			case strings.HasSuffix(got, ":0\n") != slices.Contains(wantFiles, flag):
				t.Errorf("%s %s: a shell gets %q", cmd.CommandPath(), flag, got)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(cli.Command(e))
}

// A shell has a terminal, and somebody types into it.
func TestShellsComplete(t *testing.T) {
	testenv.NeedRoot(t)
	d := withSample(t)
	mustGocker(t, d, "volume", "create", "first-volume")
	home := t.TempDir()
	for name, content := range map[string]string{"an-archive.tar": "", "bashrc": "PS1='> '\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const packaged = "/usr/share/bash-completion/bash_completion"
	for name, shell := range map[string]struct {
		needs   string
		command []string
		setup   string
	}{
		"bash":                  {"", []string{"bash", "--noprofile", "--rcfile", "bashrc"}, "source <(gocker completion bash)"},
		"bash with its package": {packaged, []string{"bash", "--noprofile", "--rcfile", "bashrc"}, "source " + packaged + "; source <(gocker completion bash)"},
		"zsh":                   {"", []string{"zsh", "-f"}, "PS1='> '; autoload -U compinit; compinit -u -D; source <(gocker completion zsh)"},
		"fish":                  {"", []string{"fish", "--no-config"}, "function fish_prompt; echo '> '; end; gocker completion fish | source"},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.Needs(t, shell.command[0])
			if _, err := os.Stat(shell.needs); shell.needs != "" && err != nil {
				testenv.Lacks(t, shell.needs)
			}
			cmd := exec.Command(shell.command[0], shell.command[1:]...)
			cmd.Dir = home
			cmd.Env = append(os.Environ(), "HOME="+home, "TERM=xterm", "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
			term := terminalOf(t, cmd)
			term.types(shell.setup + "; echo set; echo up\n")
			term.shows("set\r\nup\r\n")
			for typed, want := range map[string]string{
				"gocker volume rm fi":             "gocker volume rm first-volume",
				"gocker run --restart=unl":        "--restart=unless-stopped",
				"gocker run sample:la":            "gocker run sample:latest",
				"gocker load -i an-":              "gocker load -i an-archive.tar",
				"gocker run --network none --pul": "--network none --pull",
			} {
				term.types(typed + "\t")
				term.shows(want)
				term.types("\x15") // Ctrl-U: the line is empty again
			}
		})
	}
}
