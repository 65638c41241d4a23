//go:build linux

package house

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gocker/final/internal/cli"
	"gocker/final/internal/engine"
	"gocker/step01-pull/shared/dirs"
)

// reference is the page that has all commands and flags. It is made of what the commands say of themselves.
const reference = "docs/commands.md"

func TestTheCommandReferenceIsWhatTheCommandsSay(t *testing.T) {
	file := filepath.Join(root, reference)
	gocker := cli.Command(&engine.Engine{Dirs: dirs.Dirs{Root: "/var/lib/gocker", Run: "/var/run/gocker"}})
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// What stands above the first command is written by hand.
	head, _, _ := strings.Cut(string(old), "\n## ")
	page := commandPage(head, gocker)
	if page == string(old) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the commands say; write it anew: go test ./final/internal/house -update", reference)
	}
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
}

func commandPage(head string, gocker *cobra.Command) string {
	page := bytes.NewBufferString(head)
	fmt.Fprintf(page, "\n## Flags of all commands\n%s", flagTable(gocker.PersistentFlags()))
	// A group has commands of the top level once more. Those are described there.
	top := map[string]*cobra.Command{}
	for _, cmd := range gocker.Commands() {
		top[cmd.Short] = cmd
	}
	var describe func(cmd *cobra.Command)
	describe = func(cmd *cobra.Command) {
		fmt.Fprintf(page, "\n## %s\n\n", cmd.CommandPath())
		if cmd.Runnable() {
			fmt.Fprintf(page, "```text\n%s\n```\n\n", strings.ReplaceAll(cmd.UseLine(), "\n  ", "\n"))
		}
		fmt.Fprint(page, about(cmd), flagTable(cmd.LocalFlags()))
		if !cmd.HasSubCommands() {
			return
		}
		var own []*cobra.Command
		fmt.Fprint(page, "\n| command | |\n|---|---|\n")
		for _, sub := range cmd.Commands() {
			described := top[sub.Short]
			if described == nil {
				described = sub
				own = append(own, sub)
			}
			fmt.Fprintf(page, "| [%s](#%s) | %s |\n", sub.CommandPath(), strings.ReplaceAll(described.CommandPath(), " ", "-"), inText.Replace(sub.Short))
		}
		for _, sub := range own {
			describe(sub)
		}
	}
	for _, cmd := range gocker.Commands() {
		describe(cmd)
	}
	return page.String()
}

// about is what a command says of itself. Its indented lines are columns.
func about(cmd *cobra.Command) string {
	if cmd.Long == "" {
		return inText.Replace(cmd.Short) + ".\n"
	}
	var paragraphs []string
	for _, p := range cli.Paragraphs(cmd.Long) {
		if strings.HasPrefix(p, "  ") {
			p = "```text\n" + p + "\n```"
		} else {
			p = inText.Replace(p)
		}
		paragraphs = append(paragraphs, p)
	}
	return strings.Join(paragraphs, "\n\n") + "\n"
}

// flagTable has a line for each flag, which is as it is whatever the other flags are.
func flagTable(flags *pflag.FlagSet) string {
	var rows strings.Builder
	for _, f := range cli.FlagTexts(flags) {
		if f.Name == "help" {
			continue
		}
		name := "--" + f.Name
		if f.Short != "" {
			name = "-" + f.Short + ", " + name
		}
		if f.Value != "" {
			name += " " + inCode.Replace(f.Value)
		}
		fmt.Fprintf(&rows, "| `%s` | %s |\n", name, inText.Replace(f.Usage))
	}
	if rows.Len() == 0 {
		return ""
	}
	return "\n| flag | |\n|---|---|\n" + rows.String()
}

// What would end a cell of a table, or mean something to Markdown.
var (
	inCode = strings.NewReplacer("|", `\|`)
	inText = strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`)
)
