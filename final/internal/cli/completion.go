//go:build linux

package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
)

func completionCommand(*engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script with which a shell completes commands, flags, and names of containers, images, volumes and networks",
		Long: `Print a script with which a shell completes commands, flags, and names of containers, images, volumes and networks.

  bash    source <(gocker completion bash)
  zsh     source <(gocker completion zsh)
  fish    gocker completion fish | source

To have it always, write the line into ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			write := map[string]func(io.Writer) error{
				"bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
				"zsh": func(w io.Writer) error {
					// The script is for a folder of zsh's; this line has it work where it is sourced.
					err := root.GenZshCompletion(w)
					if err == nil {
						_, err = fmt.Fprintln(w, "compdef _gocker gocker")
					}
					return err
				},
				"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
			}
			return write[args[0]](cmd.OutOrStdout())
		},
	}
}

// complete has every command below cmd complete names: what its usage calls CONTAINER is a container's, and so on.
func complete(e *engine.Engine, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		complete(e, sub)
		if sub.Flags().Lookup("network") != nil {
			sub.RegisterFlagCompletionFunc("network", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return networkNames(e), cobra.ShellCompDirectiveNoFileComp
			})
		}
		_, usage, _ := strings.Cut(sub.Use, " ")
		first, rest, _ := strings.Cut(strings.TrimPrefix(usage, "[flags] "), " ")
		var names func(cmd *cobra.Command) []string
		switch strings.Trim(first, "[]…") {
		case "CONTAINER", "CONTAINER:SOURCE":
			names = func(cmd *cobra.Command) []string { return containerNames(e, cmd.Name()) }
		case "IMAGE":
			names = func(*cobra.Command) []string { return imageNames(e) }
		case "VOLUME":
			names = func(*cobra.Command) []string { return volumeNames(e) }
		case "NETWORK":
			names = func(*cobra.Command) []string { return networkNames(e) }
		case "NAME":
			names = func(cmd *cobra.Command) []string {
				return slices.Concat(containerNames(e, cmd.Name()), imageNames(e), volumeNames(e), networkNames(e))
			}
		}
		if names == nil || sub.ValidArgsFunction != nil {
			continue
		}
		many := strings.Contains(first, "…") || rest == ""
		sub.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if cmd.Name() == "cp" { // either may be in the container; else it is a file
				return names(cmd), cobra.ShellCompDirectiveNoSpace
			}
			if len(args) == 1 && rest == "CONTAINER" { // network connect NETWORK CONTAINER
				return containerNames(e, cmd.Name()), cobra.ShellCompDirectiveNoFileComp
			}
			if len(args) > 0 && !many {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return slices.DeleteFunc(names(cmd), func(name string) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// wants says in which conditions a container is one for a command; nil is all.
func wants(command string) []string {
	switch command {
	case "start":
		return []string{"created", "exited"}
	case "pause", "exec", "attach":
		return []string{"running"}
	case "unpause":
		return []string{"paused"}
	case "stop", "kill", "top", "stats", "lsns":
		return []string{"running", "paused", "restarting"}
	}
	return nil
}

// containerNames are those that may stand behind a command. A completion cannot tell an error.
func containerNames(e *engine.Engine, command string) (names []string) {
	states, _ := e.Containers().List()
	conditions := wants(command)
	for _, s := range states {
		if conditions != nil && !slices.Contains(conditions, s.Condition()) {
			continue
		}
		name := s.Name
		if command == "cp" {
			name += ":"
		}
		names = append(names, name)
	}
	return names
}

func imageNames(e *engine.Engine) (names []string) {
	images, _ := e.Images().Names()
	for _, name := range slices.Sorted(maps.Keys(images)) {
		for _, tag := range slices.Sorted(maps.Keys(images[name])) {
			if !strings.HasPrefix(tag, "sha256:") {
				names = append(names, name+":"+tag)
			}
		}
	}
	return names
}

func volumeNames(e *engine.Engine) (names []string) {
	volumes, _ := e.Volumes().List()
	for _, v := range volumes {
		names = append(names, v.Name)
	}
	return names
}

func networkNames(e *engine.Engine) (names []string) {
	networks, _ := e.Networks().ListAll()
	for _, n := range networks {
		names = append(names, n.Name)
	}
	return names
}
