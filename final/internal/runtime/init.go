//go:build linux

package runtime

import (
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/tiny"
	"gocker/final/internal/whynot"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// underInit is the part of a container whose PID 1 is tiny.Init. That does not look for the command in PATH, so it is done
// here: inside, where the command may be in a volume.
func underInit(process *specs.Process) namespaces.Part {
	return namespaces.Part{Inside: func() error {
		if len(process.Args) < 2 || process.Args[0] != tiny.InitPath {
			return nil
		}
		command := *process
		command.Args = process.Args[2:]
		candidates := birth.Candidates(command.Args[0], command.Env)
		if candidates[0] == command.Args[0] { // it has a slash
			return nil
		}
		i := slices.IndexFunc(candidates, func(path string) bool {
			info, err := os.Stat(path)
			return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
		})
		if i < 0 {
			return whynot.NotFound(&command)
		}
		process.Args[1] = candidates[i]
		return nil
	}}
}
