//go:build linux

package cli

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// elsewhere is how to do what docker has a command for, and gocker has none.
var elsewhere = map[string]string{
	"build":   "to build an image: podman build -t NAME . && podman save NAME | gocker load; or change a container, and: gocker commit",
	"buildx":  "to build an image: podman build -t NAME . && podman save NAME | gocker load; or change a container, and: gocker commit",
	"compose": "gocker runs one container at a time: a script of gocker run lines does it",
	"network": "containers have no network but their own loopback, the host's, or another container's: see run --network",
	"search":  "gocker pulls images by their names; to find a name, look at the registry's own pages",
}

// missingFlags are flags of docker's and podman's run that gocker has not, and what there is instead.
var missingFlags = []struct {
	names   []string
	instead string
}{
	{[]string{"gpus"}, "--device gives it devices by their names"},
	{[]string{"uidmap", "gidmap"}, "there are no user namespaces yet: root in a container is the host's root, with fewer capabilities"},
	{[]string{"health-cmd", "health-interval", "health-retries", "health-timeout", "health-start-period"},
		"health is not checked; a check from outside: gocker exec CONTAINER COMMAND"},
	{[]string{"runtime"}, "gocker is its own runtime"},
}

// instead says what to do in place of a flag that is not there, if there is something.
func instead(cmd *cobra.Command, err error) string {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) || cmd.Name() != "run" && cmd.Name() != "create" {
		return ""
	}
	for _, m := range missingFlags {
		if slices.Contains(m.names, missing.GetSpecifiedName()) {
			return m.instead
		}
	}
	return ""
}
