//go:build linux

package main

import "github.com/spf13/cobra"

// What no command says of itself.

const about = `gocker runs containers, without a daemon: a container is a process of this machine, with namespaces, a root folder and limits of its own. Commands, flags, output and exit statuses are docker's, if docker has them.

"gocker doctor" says whether containers can run on this machine. "gocker run --explain" tells what gocker asks of the kernel, with the commands that do it by hand.

  gocker run --rm -it alpine
  gocker run -d --name web -p 8080:80 nginx
  gocker ps`

const (
	usualStatus = `0 if all went well, 1 if not, 125 if there is no such flag.`
	// Of commands that run one in a container.
	ownStatus = `That of the command in the container; 128 and the number of a signal, if one ended it. If it did not come to that:

  125  gocker failed, or there is no such flag
  126  the command cannot be executed
  127  there is no such command`
	execStatus = `That of the command in the container; 128 and the number of a signal, if one ended it. If it did not come to that:

  1    gocker failed, or the container does not run
  125  there is no such flag
  126  the command cannot be executed
  127  there is no such command`
	startStatus = `0 if all of them started, 1 if not. With --attach or --interactive, that of the container's command; 128 and the number of a signal, if one ended it.`
)

func status(cmd *cobra.Command) string {
	switch {
	case !cmd.HasParent():
		return usualStatus + "\n\n" + `For "gocker run", "gocker exec" and "gocker start --attach" it is the status of the container's command: see there.`
	case cmd.Name() == "run":
		return ownStatus
	case cmd.Name() == "exec":
		return execStatus
	case cmd.Name() == "start":
		return startStatus
	}
	return usualStatus
}

var files = [][2]string{
	{"/var/lib/gocker", "Images, layers, volumes and networks; for others than root ~/.local/share/gocker."},
	{"/var/run/gocker", "Containers; for others than root gocker in $XDG_RUNTIME_DIR."},
	{"~/.docker/config.json", "Credentials for registries: gocker login writes them, as docker does."},
	{"/etc/docker/certs.d/REGISTRY, /etc/containers/certs.d/REGISTRY", "Certificates of authorities to trust (*.crt), and to show (*.cert with *.key)."},
}

var environment = [][2]string{
	{"GOCKER_ROOT, GOCKER_RUN", "As --root and --run."},
	{"GOCKER_USERNS", "As --userns of run and create: auto gives each container users of its own."},
	{"DOCKER_CONFIG", "The folder of config.json, as --config."},
	{"XDG_DATA_HOME, XDG_RUNTIME_DIR", "Where the folders of others than root are."},
	{"HTTP_PROXY, HTTPS_PROXY, NO_PROXY", "The proxy that registries are asked by."},
	{"COLUMNS", "How wide help may be."},
}

// kernelPages are of what containers are made of. The commands' pages stand above, in gocker(1).
var kernelPages = []string{"namespaces (7)", "cgroups (7)", "capabilities (7)", "docker (1)", "podman (1)"}

// related are other pages that a reader may want.
var related = map[string][]string{
	"gocker-run":     {"gocker-create", "gocker-exec", "gocker-logs", "gocker-ps", "gocker-stop", "gocker-why"},
	"gocker-create":  {"gocker-run", "gocker-start", "gocker-rm"},
	"gocker-exec":    {"gocker-run", "gocker-attach", "gocker-cp"},
	"gocker-start":   {"gocker-create", "gocker-stop", "gocker-attach", "gocker-logs"},
	"gocker-stop":    {"gocker-start", "gocker-kill", "gocker-rm"},
	"gocker-ps":      {"gocker-inspect", "gocker-stats", "gocker-top"},
	"gocker-pull":    {"gocker-images", "gocker-login", "gocker-push"},
	"gocker-push":    {"gocker-login", "gocker-pull", "gocker-tag"},
	"gocker-images":  {"gocker-pull", "gocker-rmi", "gocker-image-inspect"},
	"gocker-save":    {"gocker-load", "gocker-export"},
	"gocker-load":    {"gocker-save", "gocker-import"},
	"gocker-export":  {"gocker-import", "gocker-cp"},
	"gocker-import":  {"gocker-export", "gocker-load"},
	"gocker-commit":  {"gocker-diff", "gocker-history"},
	"gocker-doctor":  {"gocker-info", "gocker-why"},
	"gocker-why":     {"gocker-doctor", "gocker-inspect", "gocker-logs"},
	"gocker-inspect": {"gocker-ps", "gocker-why"},
}
