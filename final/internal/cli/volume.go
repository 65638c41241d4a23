//go:build linux

package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/filter"
	"gocker/final/internal/volumes"
	"gocker/step01-pull/shared/advice"
)

func volumeCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Short: "Commands for volumes: folders that outlive containers", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(volumeCreateCommand(e), volumeListCommand(e), volumeInspectCommand(e), volumeRmCommand(e), volumePruneCommand(e))
	return cmd
}

func volumeCreateCommand(e *engine.Engine) *cobra.Command {
	var labels, options []string
	var driver string
	cmd := &cobra.Command{
		Use:   "create [flags] [NAME]",
		Short: "Make a volume",
		Example: `  gocker volume create -o type=tmpfs -o device=tmpfs -o o=size=64m memory
  gocker volume create -o type=none -o o=bind,ro -o device=/srv/www pages
  gocker volume create -o type=ext4 -o device=/dev/sdb1 disk`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if driver != "local" {
				return advice.Add(fmt.Errorf("--driver %q: %w", driver, describe.ErrOption), "there is only local; for a folder of another file system: run -v /DIR:/DIR")
			}
			v, err := e.Volumes().Create(volumes.Volume{Name: strings.Join(args, ""), Labels: byKey(labels), Options: byKey(options)})
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), v.Name)
			}
			return err
		},
	}
	cmd.Flags().Var((*labelList)(&labels), "label", "label: `KEY=value`")
	cmd.Flags().VarP((*list)(&options), "opt", "o", "`KEY=VALUE`: type=FILESYSTEM, device=WHAT, o=OPTIONS; this is mounted as its folder while containers use it, as by mount -t, its argument and -o")
	cmd.Flags().StringVarP(&driver, "driver", "d", "local", "`local`: there is no other")
	return cmd
}

// byKey are KEY=value pairs.
func byKey(pairs []string) map[string]string {
	known := map[string]string{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		known[key] = value
	}
	return known
}

// volumeRow is a row of volume ls, with docker's names.
type volumeRow struct {
	CreatedAt  string `header:"CREATED"`
	Driver     string
	Labels     string
	Mountpoint string
	Name       string `header:"VOLUME NAME"`
	Scope      string

	Availability, Group, Status string // of a cluster's volumes
	Links, Size                 string // docker's list does not know them either: see system df -v

	labels map[string]string
}

// Label is the value of one label.
func (r volumeRow) Label(name string) string {
	return printable(struct{ Text string }{r.labels[name]}).Text
}

// volumeDetails are what volume inspect shows, with docker's names.
type volumeDetails struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func inspectVolume(e *engine.Engine, name string) (volumeDetails, error) {
	v, err := e.Volumes().Get(name)
	if err != nil {
		return volumeDetails{}, err
	}
	point, err := e.Volumes().Mountpoint(name)
	return volumeDetails{v.Created.Format(time.RFC3339), "local", v.Labels, point, v.Name, v.Options, "local"}, err
}

func volumeListCommand(e *engine.Engine) *cobra.Command {
	var format string
	var quiet bool
	var filters []string
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, unread := e.Volumes().List()
			used, usedErr := e.Containers().VolumeUsers()
			if unread = errors.Join(unread, usedErr); all == nil && unread != nil {
				return unread
			}
			passes, err := volumeFilter(filters, func(v volumes.Volume) bool { return used != nil && len(used[v.Name]) == 0 })
			if err != nil {
				return err
			}
			var rows []volumeRow
			for _, v := range all {
				if !passes(v) {
					continue
				}
				point, err := e.Volumes().Mountpoint(v.Name)
				if err != nil {
					return err
				}
				const none = "N/A"
				rows = append(rows, volumeRow{v.Created.Format(time.RFC3339), "local", pairs(v.Labels), point, v.Name, "local", none, none, none, none, none, v.Labels})
			}
			if quiet && format == "" {
				format = "{{.Name}}"
			}
			return errors.Join(printFormatted(cmd.OutOrStdout(), format, `table {{.Driver}}\t{{.Name}}`, rows), unread)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only the names")
	cmd.Flags().VarP((*list)(&filters), "filter", "f", "`KEY=VALUE`: name=REGEXP, label=KEY[=VALUE], driver=local, dangling=true|false (true: no container uses it)")
	cmd.Flags().StringVar(&format, "format", "", formatHelp)
	return cmd
}

// volumeFilter reads docker's filters. Those of one kind are alternatives, but for labels: a volume has to have all.
func volumeFilter(filters []string, dangling func(volumes.Volume) bool) (passes func(volumes.Volume) bool, err error) {
	kinds := filter.Tests[volumes.Volume]{}
	for i, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		kind := key
		var pass func(volumes.Volume) bool
		switch key {
		case "name":
			var name *regexp.Regexp
			name, err = regexp.Compile(value)
			pass = func(v volumes.Volume) bool { return name.MatchString(v.Name) }
		case "label":
			kind = fmt.Sprint("label ", i)
			pass = func(v volumes.Volume) bool { return filter.HasLabel(v.Labels, value) }
		case "dangling":
			var want bool
			want, err = strconv.ParseBool(value)
			pass = func(v volumes.Volume) bool { return dangling(v) == want }
		case "driver":
			pass = func(volumes.Volume) bool { return value == "local" }
		default:
			return nil, advice.Add(fmt.Errorf("--filter %q: %w", f, describe.ErrOption), "there are name, label, driver and dangling")
		}
		if err != nil {
			return nil, fmt.Errorf("--filter %q: %w", f, err)
		}
		kinds[kind] = append(kinds[kind], pass)
	}
	return kinds.Pass, nil
}

func volumeInspectCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [flags] VOLUME…",
		Short: "Show everything about volumes, as JSON",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect(cmd, args, format, func(name string) (any, error) { return inspectVolume(e, name) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", inspectHelp)
	return cmd
}

func volumeRmCommand(e *engine.Engine) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] VOLUME…",
		Aliases: []string{"remove"},
		Short:   "Remove volumes that no container uses",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(cmd, args, func(arg string) error {
				err := e.Containers().RemoveVolume(arg)
				if force && errors.Is(err, volumes.ErrNoVolume) {
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "a missing volume is no error")
	return cmd
}

func volumePruneCommand(e *engine.Engine) *cobra.Command {
	var all, force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove the volumes that no container uses",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			unwanted, err := filter.Prune(filters, false)
			if err != nil {
				return err
			}
			if !force {
				which := "volumes without a name of their own"
				if all {
					which = "volumes"
				}
				if !confirm(cmd, "This removes all "+which+" that no container has.") {
					return nil
				}
			}
			n, err := pruneVolumes(cmd.OutOrStdout(), e, func(v volumes.Volume) bool {
				return (all || v.Anonymous) && unwanted(v.Created, v.Labels)
			})
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "Total reclaimed space:", sized(n))
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also volumes that have a name")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().Var((*list)(&filters), "filter", "`KEY=VALUE`: label=KEY[=VALUE], label!=KEY[=VALUE]")
	return cmd
}
