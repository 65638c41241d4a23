//go:build linux

package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// elsewhere says how to do what docker has a command for and gocker has none.
var elsewhere = map[string]string{
	"build":   "to build an image: podman build -t NAME . && podman save NAME | gocker load; or change a container, and: gocker commit",
	"buildx":  "to build an image: podman build -t NAME . && podman save NAME | gocker load; or change a container, and: gocker commit",
	"compose": "gocker runs one container at a time: a script of gocker run lines does it",
}

// A missingFlag is one or several flags of docker or podman that gocker has not, and what to do instead.
type missingFlag struct {
	names   []string
	instead string
}

// missingFlags are those of commands, by their names behind gocker's own.
var missingFlags = map[string][]missingFlag{
	"run": {
		{[]string{"gpus"}, "--device gives it devices by their names"},
		{[]string{"health-on-failure"}, "a script can act: gocker wait --condition unhealthy CONTAINER && gocker restart CONTAINER"},
		{[]string{"runtime"}, "gocker is its own runtime"},
		{[]string{"link-local-ip"}, "--ip and --ip6 choose addresses of the network's own"},
	},
	"network create": {
		{[]string{"config-from", "config-only", "ingress"}, "these are for clusters of machines; gocker's networks are of this machine"},
		{[]string{"ipam-opt"}, "--subnet, --gateway, --ip-range and --aux-address choose its addresses"},
	},
	"network connect": {
		{[]string{"link-local-ip"}, "--ip and --ip6 choose addresses of the network's own"},
	},
}

// instead says what to do in place of a flag that is not there, if there is something.
func instead(cmd *cobra.Command, err error) string {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) {
		return ""
	}
	_, command, _ := strings.Cut(cmd.CommandPath(), " ")
	switch command {
	case "create", "container create", "container run":
		command = "run"
	}
	for _, m := range missingFlags[command] {
		if slices.Contains(m.names, missing.GetSpecifiedName()) {
			return m.instead
		}
	}
	return ""
}
