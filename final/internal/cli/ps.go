//go:build linux

package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"gocker/final/internal/containers"
	"gocker/final/internal/engine"
	"gocker/final/internal/look"
	"gocker/step04-overlay/story"
)

// psRow is a row of ps, with docker's names.
type psRow struct {
	ID           string `header:"CONTAINER ID"`
	Image        string
	Command      string
	CreatedAt    string `header:"CREATED AT"`
	RunningFor   string `header:"CREATED"`
	Ports        string
	State        string
	Status       string
	Size         string
	Names        string
	Labels       string
	Mounts       string
	LocalVolumes string `header:"LOCAL VOLUMES"`
	Networks     string

	labels map[string]string
}

// Label is the value of one label.
func (r psRow) Label(name string) string {
	return printable(struct{ Text string }{r.labels[name]}).Text
}

const psTable = `table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}`

func psCommand(e *engine.Engine) *cobra.Command {
	var opts look.ListOptions
	var quiet, latest, size, whole, noHeading bool
	var format string
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List containers",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if latest {
				opts.Last = 1
			}
			opts.Details = strings.Contains(format, "json") || strings.Contains(format, ".L") || strings.Contains(format, ".Mounts")
			debug.SetGCPercent(400) // the list is printed once and is all that there is: hardly anything of it is garbage
			listed, unread := e.Look().List(opts)
			if listed == nil && unread != nil {
				return unread
			}
			names, err := e.Images().Names()
			if err != nil {
				return err
			}
			var rows []psRow
			for _, l := range listed {
				row := psRowOf(l, names, whole)
				if size || strings.Contains(format, ".Size") {
					s, err := e.Look().Size(l.State)
					if err != nil {
						return err
					}
					row.Size = fmt.Sprintf("%s (virtual %s)", shortSize(s.Changed), shortSize(s.Root))
				}
				rows = append(rows, row)
			}
			usual := psTable
			if size {
				usual += `\t{{.Size}}`
			}
			if quiet {
				format, noHeading = "{{.ID}}", true
			}
			if format == "" {
				tellOfOthers(cmd.ErrOrStderr(), e)
			}
			return errors.Join(printRows(cmd.OutOrStdout(), format, usual, !noHeading, rows), unread)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.All, "all", "a", false, "also show containers that do not run")
	f.VarP((*list)(&opts.Filters), "filter", "f", "`KEY=VALUE`: id=, name=REGEXP, label=KEY[=VALUE], status=created|running|paused|restarting|exited, exited=STATUS, health=starting|healthy|unhealthy|none, ancestor=IMAGE, before=CONTAINER, since=CONTAINER, volume=VOLUME, network=NETWORK, publish=PORT[-PORT][/PROTOCOL], expose=PORT, is-task=false")
	f.IntVarP(&opts.Last, "last", "n", 0, "show the newest containers, at most this `number`, running or not")
	f.BoolVarP(&latest, "latest", "l", false, "show the newest container, running or not")
	f.BoolVarP(&quiet, "quiet", "q", false, "only the ids")
	f.BoolVarP(&size, "size", "s", false, "show the size of what they added and changed, and the size with the image")
	f.BoolVar(&whole, "no-trunc", false, "show whole ids, commands and mounts")
	f.StringVar(&format, "format", "", formatHelp)
	f.BoolVar(&noHeading, "noheading", false, "print no column names")
	return cmd
}

// tellOfOthers says where more containers run that are not in the list.
func tellOfOthers(w io.Writer, e *engine.Engine) {
	run := map[string]int{}
	for _, other := range e.Containers().Others() {
		if other.Held {
			run[other.Run]++
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(run)) {
		fmt.Fprintf(w, "gocker: containers of another run folder: %d; to see them: GOCKER_RUN=%s gocker ps\n", run[folder], story.Quote(folder))
	}
}

// psRowOf is a container's row, but for its size.
func psRowOf(l look.Listed, names map[string]map[string]string, whole bool) psRow {
	var mounts []string
	volumes := 0
	for _, m := range l.Mounts {
		mount := m.Source
		if m.Name != "" {
			mount = m.Name
			volumes++
		}
		if !whole {
			mount = shorten(mount, 15)
		}
		mounts = append(mounts, mount)
	}
	id := l.ID
	if whole {
		id = l.Whole()
	}
	return psRow{
		ID: id, Image: l.ImageName(names), Command: command(l.Command, whole), CreatedAt: l.Created.Format(timeFormat),
		RunningFor: ago(l.Created), State: l.Condition(), Status: status(l.State), Size: "0B", Names: l.Name,
		Labels: pairs(l.Labels), Networks: strings.Join(l.Networks, ","), Ports: ports(l.Ports), labels: l.Labels,
		LocalVolumes: strconv.Itoa(volumes), Mounts: strings.Join(mounts, ","),
	}
}

// ports are those of a container as docker lists them. Neighbours that differ only in their number, the same for the host and the
// container, are one range; those that lead to another number stand behind them.
func ports(all []look.Port) string {
	type kind struct{ ip, protocol string }
	var ranges, others []string
	var open []kind // in the order of their first ports
	first, last := map[kind]uint16{}, map[kind]uint16{}
	end := func(k kind) {
		numbers := strconv.Itoa(int(first[k]))
		if last[k] > first[k] {
			numbers += fmt.Sprint("-", last[k])
		}
		text := numbers + "/" + k.protocol
		if k.ip != "" {
			text = net.JoinHostPort(k.ip, numbers) + "->" + text
		}
		ranges = append(ranges, text)
	}
	for _, p := range all {
		k := kind{protocol: p.Protocol}
		if p.Host.IsValid() {
			k.ip = p.Host.Addr().String()
			if p.Host.Port() != p.Container {
				others = append(others, fmt.Sprintf("%s->%s", p.Host, p))
				continue
			}
		}
		switch {
		case first[k] == 0:
			open = append(open, k)
			first[k] = p.Container
		case last[k]+1 != p.Container:
			end(k)
			first[k] = p.Container
		}
		last[k] = p.Container
	}
	for _, k := range open {
		end(k)
	}
	return strings.Join(append(ranges, others...), ", ")
}

// timeFormat is how docker writes a time in a list.
const timeFormat = "2006-01-02 15:04:05 -0700 MST"

// pairs are labels as docker lists them.
func pairs(labels map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, key+"="+labels[key])
	}
	return strings.Join(all, ",")
}

func shorten(text string, length int) string {
	if runes := []rune(text); len(runes) > length {
		return string(runes[:length-1]) + "…"
	}
	return text
}

// command is quoted: it may have anything in it, also what moves the cursor.
func command(args []string, whole bool) string {
	joined := strings.Join(args, " ")
	if !whole {
		joined = shorten(joined, 20)
	}
	return strconv.Quote(joined)
}

// status is what docker says of a container.
func status(s containers.State) string {
	switch s.Condition() {
	case "running":
		up := "Up " + units.HumanDuration(time.Since(s.Started))
		switch health := s.HealthStatus(); health {
		case docker.NoHealthcheck:
			return up
		case docker.Starting:
			return up + " (health: starting)"
		default:
			return up + " (" + string(health) + ")"
		}
	case "paused":
		return "Up " + units.HumanDuration(time.Since(s.Started)) + " (Paused)"
	case "restarting":
		return fmt.Sprintf("Restarting (%d) %s", s.ExitCode, ago(s.Finished))
	case "removing":
		return "Removal In Progress"
	case "exited":
		return fmt.Sprintf("Exited (%d) %s", s.ExitCode, ago(s.Finished))
	}
	return "Created"
}
