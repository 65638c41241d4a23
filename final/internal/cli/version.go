//go:build linux

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/step03-layers/usernamespace"
	"gocker/step06-cgroups/trees"
)

// What the builder of a package says of it, by -ldflags "-X gocker/final/internal/cli.version=…". A clone says it of itself.
var version, commit, date string

// build is what is known of this program, in docker's names.
type build struct {
	Version       string
	GitCommit     string
	BuildTime     string
	GoVersion     string
	Os            string
	Arch          string
	KernelVersion string
}

func thisBuild() build {
	b := build{Version: version, GitCommit: commit, BuildTime: date, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, KernelVersion: kernelVersion()}
	info, ok := debug.ReadBuildInfo()
	if !ok || version != "" {
		b.Version = cmp.Or(version, "unknown")
		return b
	}
	b.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.GitCommit = s.Value[:min(len(s.Value), 7)] + b.GitCommit
		case "vcs.modified":
			if s.Value == "true" {
				b.GitCommit += ", changed"
			}
		case "vcs.time":
			b.BuildTime = s.Value
		}
	}
	return b
}

// String is docker's: "29.0.0, build 3d4129b".
func (b build) String() string {
	if b.GitCommit == "" {
		return b.Version
	}
	return b.Version + ", build " + b.GitCommit
}

func kernelVersion() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func versionCommand(*engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Show the version of gocker",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if format != "" {
				// There is no daemon: if a user asks for the server, this program is it.
				return printInspected(cmd.OutOrStdout(), format, []struct{ Client, Server build }{{b, b}})
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 1, ' ', 0)
			fmt.Fprintf(t, "gocker:\n Version:\t%s\n", b.Version)
			if b.GitCommit != "" {
				fmt.Fprintf(t, " Git commit:\t%s\n Committed:\t%s\n", b.GitCommit, b.BuildTime)
			}
			fmt.Fprintf(t, " Go version:\t%s\n OS/Arch:\t%s/%s\n Kernel:\t%s\n", b.GoVersion, b.Os, b.Arch, b.KernelVersion)
			return t.Flush()
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "`json`, or a Go template such as '{{.Server.Version}}'")
	return cmd
}

// information is what docker info tells, as far as gocker has it.
type information struct {
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	CgroupDriver      string
	CgroupVersion     string
	KernelVersion     string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	DockerRootDir     string
	Name              string
	ServerVersion     string
	LoggingDriver     string
	SecurityOptions   []string
	Plugins           struct{ Volume, Network, Log []string }
	Swarm             struct{ LocalNodeState string }
}

func infoCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "info [flags]",
		Short: "Show how many containers and images there are, and facts about this machine; see also gocker doctor",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			i, unread, err := inform(e)
			if err != nil {
				return err
			}
			if format != "" {
				return errors.Join(printInspected(cmd.OutOrStdout(), format, []information{i}), unread)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 1, ' ', 0)
			fmt.Fprintf(t, "Containers:\t%d\n Running:\t%d\n Paused:\t%d\n Stopped:\t%d\nImages:\t%d\n", i.Containers, i.ContainersRunning,
				i.ContainersPaused, i.ContainersStopped, i.Images)
			fmt.Fprintf(t, "Version:\t%s\nStorage Driver:\t%s\nCgroup Driver:\t%s\nCgroup Version:\t%s\nKernel Version:\t%s\n", i.ServerVersion, i.Driver,
				i.CgroupDriver, i.CgroupVersion, i.KernelVersion)
			fmt.Fprintf(t, "OSType:\t%s\nArchitecture:\t%s\nCPUs:\t%d\nTotal Memory:\t%s\nName:\t%s\nRoot Dir:\t%s\nRun Dir:\t%s\n", i.OSType, i.Architecture,
				i.NCPU, sized(i.MemTotal), i.Name, i.DockerRootDir, e.Dirs.Run)
			return errors.Join(t.Flush(), unread)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "`json`, or a Go template such as '{{.Containers}}'")
	return cmd
}

// inform counts. unread names what cannot be read: that is not counted.
func inform(e *engine.Engine) (i information, unread, err error) {
	states, statesErr := e.Containers().List()
	images, imagesErr := e.Images().List(nil, false)
	unread = errors.Join(statesErr, imagesErr)
	ids := map[string]bool{}
	for _, image := range images {
		ids[image.ID] = true
	}
	i = information{
		Containers: len(states), Images: len(ids), Driver: "overlay", CgroupDriver: "cgroupfs", KernelVersion: kernelVersion(),
		OSType: runtime.GOOS, NCPU: runtime.NumCPU(), DockerRootDir: e.Dirs.Root, ServerVersion: thisBuild().Version,
		LoggingDriver: "json-file", SecurityOptions: []string{"name=seccomp,profile=builtin", "name=cgroupns"},
	}
	if usernamespace.Inside() {
		i.SecurityOptions = append(i.SecurityOptions, "name=rootless")
	}
	i.Plugins.Volume, i.Plugins.Network, i.Plugins.Log = []string{"local"}, []string{"bridge", "host", "null"}, describe.LogDrivers
	i.Swarm.LocalNodeState = "inactive"
	for _, s := range states {
		switch s.Condition() {
		case "paused":
			i.ContainersPaused++
		case "running", "restarting":
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	mounted, err := trees.Find()
	mode, _ := mounted.Mode()
	if err != nil {
		return i, unread, err
	}
	i.CgroupVersion = "1"
	if strings.HasSuffix(mode, "v2") {
		i.CgroupVersion = "2"
	}
	var memory unix.Sysinfo_t
	var u unix.Utsname
	if unix.Sysinfo(&memory) == nil && unix.Uname(&u) == nil {
		i.MemTotal, i.Name = int64(memory.Totalram)*int64(memory.Unit), unix.ByteSliceToString(u.Nodename[:])
		i.Architecture = unix.ByteSliceToString(u.Machine[:])
	}
	return i, unread, nil
}
