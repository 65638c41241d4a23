//go:build linux

package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
)

var containerCommands = []named{
	{"run", runCommand}, {"create", createCommand}, {"start", startCommand}, {"stop", stopCommand}, {"restart", restartCommand},
	{"kill", killCommand}, {"wait", waitCommand}, {"pause", pauseCommand}, {"unpause", unpauseCommand}, {"rm", rmCommand},
	{"rename", renameCommand}, {"update", updateCommand},
	{"exec", execCommand}, {"attach", attachCommand}, {"logs", logsCommand}, {"cp", cpCommand}, {"commit", commitCommand}, {"export", exportCommand},
	{"ps", psCommand}, {"stats", statsCommand}, {"diff", diffCommand}, {"layers", layersCommand}, {"lsns", lsnsCommand},
	{"top", topCommand}, {"port", portCommand},
	{"events", eventsCommand}, {"why", whyCommand},
}

// containerCommand has all of them once more, as docker has them.
func containerCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{Use: "container", Short: "Commands for containers", Args: cobra.NoArgs, RunE: help}
	for _, c := range containerCommands {
		sub := c.make(e)
		switch c.name {
		case "events": // docker has it in system
			continue
		case "ps":
			sub.Use = "ls" + strings.TrimPrefix(sub.Use, "ps")
			sub.Aliases = []string{"list", "ps"}
		case "rm":
			sub.Aliases = []string{"remove"}
		}
		cmd.AddCommand(sub)
	}
	cmd.AddCommand(containerInspectCommand(e), containerPruneCommand(e))
	return cmd
}
