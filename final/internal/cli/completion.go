//go:build linux

package cli

import (
	"fmt"
	"io"

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
				"bash": func(w io.Writer) error {
					err := root.GenBashCompletionV2(w, true)
					if err == nil {
						_, err = io.WriteString(w, bashWords)
					}
					return err
				},
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

// bashWords replaces a function of cobra's script that wants the package bash-completion. If that package is there, nothing calls
// bashWords.
const bashWords = `
# The words of the line up to the cursor. Readline also splits them at = and : and this puts them together again. What is
# behind > or < is no word for gocker: there bash itself completes files.
__gocker_init_completion()
{
    local line=${COMP_LINE:0:COMP_POINT} word i
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ $word == [\<\>\&\|]* || $word == [0-9][\<\>]* ]] && return 1
        if ((i > 0)) && [[ -n $line && $line != [[:blank:]]* ]]; then
            ((i < COMP_CWORD)) || word=$line
            words[${#words[@]}-1]+=$word
        else
            line=${line#"${line%%[![:blank:]]*}"}
            ((i < COMP_CWORD)) || word=$line
            words+=("$word")
        fi
        line=${line#"$word"}
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=
    ((cword == 0)) || prev=${words[cword-1]}
}
`
