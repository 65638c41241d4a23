//go:build linux

package cli

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
)

func unshareCommand(*engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "unshare [COMMAND [ARG…]]",
		Short: "Run a command, or a shell, in the user namespace of your containers",
		Long: "Run a command, or a shell, in the user namespace of your containers, as podman unshare does. There you are root, and own the\n" +
			"files that containers have made as other users: ls -l shows whose they are, and rm removes them.",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
				return cmd.Help()
			}
			if !usernamespace.Inside() {
				return exit{exitGocker, advice.Add(errors.New("unshare: root's containers are in no user namespace"), "as root, just run the command")}
			}
			if len(args) == 0 {
				args = []string{cmp.Or(os.Getenv("SHELL"), "/bin/sh")}
			}
			path, err := exec.LookPath(args[0])
			if err == nil {
				err = syscall.Exec(path, args, os.Environ())
			}
			return exit{failedStatus(err, 126), err}
		},
	}
}
