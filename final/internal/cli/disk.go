//go:build linux

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/filter"
	"gocker/final/internal/look"
	"gocker/final/internal/volumes"
)

// dfRow is a row of system df, with docker's names.
type dfRow struct {
	Type        string
	TotalCount  string `header:"TOTAL"`
	Active      string
	Size        string
	Reclaimable string
}

func newDfRow(kind string, total, active int, size, reclaimable int64) dfRow {
	row := dfRow{kind, strconv.Itoa(total), strconv.Itoa(active), sized(size), sized(reclaimable)}
	if size > 0 {
		row.Reclaimable += fmt.Sprintf(" (%d%%)", reclaimable*100/size)
	}
	return row
}

func sized(n int64) string { return units.HumanSize(float64(n)) }

// shortSize is how docker's lists write sizes: with three digits.
func shortSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

func systemDfCommand(e *engine.Engine) *cobra.Command {
	var verbose bool
	var format string
	cmd := &cobra.Command{
		Use:   "df [flags]",
		Short: "Show how much disk space images, containers and volumes take",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			usage, unread := e.Look().DiskUsage()
			if verbose {
				return errors.Join(printUsage(cmd.OutOrStdout(), e, usage, format), unread)
			}
			images, active := map[string]bool{}, map[string]bool{}
			for _, i := range usage.Images {
				if images[i.ID] = true; i.Containers > 0 {
					active[i.ID] = true
				}
			}
			rows := []dfRow{newDfRow("Images", len(images), len(active), usage.ImageBytes, usage.Unused)}
			add := func(kind string, n int, of func(i int) (bytes int64, active bool)) {
				used, size, reclaimable := 0, int64(0), int64(0)
				for i := range n {
					bytes, active := of(i)
					if size += bytes; active {
						used++
					} else {
						reclaimable += bytes
					}
				}
				rows = append(rows, newDfRow(kind, n, used, size, reclaimable))
			}
			add("Containers", len(usage.Containers), func(i int) (int64, bool) { return usage.Containers[i].Bytes, usage.Containers[i].Pid > 0 })
			add("Local Volumes", len(usage.Volumes), func(i int) (int64, bool) { return usage.Volumes[i].Bytes, usage.Volumes[i].Containers > 0 })
			rows = append(rows, newDfRow("Build Cache", 0, 0, 0, 0)) // gocker builds nothing
			err := printFormatted(cmd.OutOrStdout(), format, `table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}`, rows)
			return errors.Join(err, unread)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "each image, container and volume; with --format all of it as one value: {{.Images}}, {{.Containers}}, {{.Volumes}}")
	cmd.Flags().StringVar(&format, "format", "", formatHelp)
	return cmd
}

type (
	imageUsageRow struct {
		Repository   string
		Tag          string
		ID           string `header:"IMAGE ID"`
		CreatedSince string `header:"CREATED"`
		Size         string
		SharedSize   string `header:"SHARED SIZE"`
		UniqueSize   string `header:"UNIQUE SIZE"`
		Containers   int
	}
	containerUsageRow struct {
		ID           string `header:"CONTAINER ID"`
		Image        string
		Command      string
		LocalVolumes int `header:"LOCAL VOLUMES"`
		Size         string
		RunningFor   string `header:"CREATED"`
		Status       string
		Names        string
	}
	volumeUsageRow struct {
		Name  string `header:"VOLUME NAME"`
		Links int
		Size  string
	}
	// cacheUsageRow is docker's row for a build cache, which gocker has not.
	cacheUsageRow struct {
		ID            string `header:"CACHE ID"`
		CacheType     string `header:"CACHE TYPE"`
		Size          string
		CreatedSince  string `header:"CREATED"`
		LastUsedSince string `header:"LAST USED"`
		UsageCount    int    `header:"USAGE"`
		Shared        string
	}
	usageRows struct {
		Images     []imageUsageRow
		Containers []containerUsageRow
		Volumes    []volumeUsageRow
		BuildCache []cacheUsageRow
	}
)

func printUsage(w io.Writer, e *engine.Engine, usage look.DiskUsage, format string) error {
	names, err := e.Images().Names()
	if err != nil {
		return err
	}
	images, containers, volumes := []imageUsageRow{}, []containerUsageRow{}, []volumeUsageRow{}
	for _, i := range usage.Images {
		images = append(images, imageUsageRow{i.Repository, i.Tag, i.ID, ago(i.Created), sized(i.Size), sized(i.Shared), sized(i.Unique), i.Containers})
	}
	for _, c := range usage.Containers {
		has := 0
		for _, m := range c.Mounts {
			if m.Type == mount.TypeVolume {
				has++
			}
		}
		containers = append(containers, containerUsageRow{
			c.ID, c.ImageName(names), command(c.Command, false), has, sized(c.Bytes), ago(c.Created), status(c.State), c.Name,
		})
	}
	for _, v := range usage.Volumes {
		volumes = append(volumes, volumeUsageRow{v.Name, v.Containers, sized(v.Bytes)})
	}
	if format != "" && format != "table" { // all of it in one value
		return printInspected(w, format, []usageRows{{images, containers, volumes, []cacheUsageRow{}}})
	}
	fmt.Fprint(w, "Images space usage:\n\n")
	if err := printFormatted(w, "", `table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}`, images); err != nil {
		return err
	}
	fmt.Fprint(w, "\nContainers space usage:\n\n")
	if err := printFormatted(w, "", `table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}`, containers); err != nil {
		return err
	}
	fmt.Fprint(w, "\nLocal Volumes space usage:\n\n")
	if err := printFormatted(w, "", `table {{.Name}}\t{{.Links}}\t{{.Size}}`, volumes); err != nil {
		return err
	}
	fmt.Fprint(w, "\nBuild cache usage: 0B\n\n")
	return printFormatted(w, "", `table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}`, []cacheUsageRow(nil))
}

func containerPruneCommand(e *engine.Engine) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove the containers that do not run",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkPrune(filters, true); err != nil {
				return err
			}
			if !force && !confirm(cmd, "This removes all containers that do not run.") {
				return nil
			}
			n, err := pruneContainers(cmd.OutOrStdout(), e, filters)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "Total reclaimed space:", sized(n))
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().Var((*list)(&filters), "filter", pruneFilterHelp)
	return cmd
}

const pruneFilterHelp = "`KEY=VALUE`: until=TIME or HOW-LONG-AGO, label=KEY[=VALUE], label!=KEY[=VALUE]"

// checkPrune finds what is wrong with filters before the user is asked.
func checkPrune(filters []string, withTimes bool) error {
	_, err := filter.Prune(filters, withTimes)
	return err
}

// pruneContainers prints as docker does.
func pruneContainers(w io.Writer, e *engine.Engine, filters []string) (int64, error) {
	var removed []string
	n, err := e.Life().Prune(filters, func(id string) { removed = append(removed, id) })
	if removed != nil {
		fmt.Fprintf(w, "Deleted Containers:\n%s\n\n", strings.Join(removed, "\n"))
	}
	return n, err
}

func pruneVolumes(w io.Writer, e *engine.Engine, unwanted func(volumes.Volume) bool) (int64, error) {
	var removed []string
	n, err := e.Containers().PruneVolumes(unwanted, func(name string) { removed = append(removed, name) })
	if removed != nil {
		fmt.Fprintf(w, "Deleted Volumes:\n%s\n\n", strings.Join(removed, "\n"))
	}
	return n, err
}

func pruneImages(w io.Writer, e *engine.Engine, all bool, filters []string) (int64, error) {
	p, err := e.Images().Prune(all, filters)
	if len(p.Untagged)+len(p.Deleted)+len(p.Leftovers) > 0 {
		fmt.Fprintln(w, "Deleted Images:")
		for _, name := range p.Untagged {
			fmt.Fprintln(w, "untagged:", name)
		}
		for _, id := range append(p.Deleted, p.Leftovers...) {
			fmt.Fprintln(w, "deleted:", id)
		}
		fmt.Fprintln(w)
	}
	return p.Bytes, err
}

func systemPruneCommand(e *engine.Engine) *cobra.Command {
	var all, withVolumes, force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove the containers that do not run, the networks and images that no container needs, and the remains of crashes",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			what := "all containers that do not run, all networks that no other container has, all images without a name"
			if all {
				what = "all containers that do not run, all networks and images that no other container has"
			}
			if withVolumes {
				what += ", all volumes without a name of their own that no other container has"
			}
			unwanted, err := filter.Prune(filters, !withVolumes)
			if err != nil {
				return err
			}
			if !force && !confirm(cmd, "This removes "+what+", and the remains of broken pulls.") {
				return nil
			}
			out := cmd.OutOrStdout()
			n, err := pruneContainers(out, e, filters)
			err = errors.Join(err, pruneNetworks(out, e, filters))
			if withVolumes {
				more, volumesErr := pruneVolumes(out, e, func(v volumes.Volume) bool { return v.Anonymous && unwanted(v.Created, v.Labels) })
				n, err = n+more, errors.Join(err, volumesErr)
			}
			more, imagesErr := pruneImages(out, e, all, filters)
			fmt.Fprintln(out, "Total reclaimed space:", sized(n+more))
			return errors.Join(err, imagesErr)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "also images that have a name, if no container uses them")
	f.BoolVar(&withVolumes, "volumes", false, "also volumes without a name, if no container uses them")
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.Var((*list)(&filters), "filter", pruneFilterHelp+"; with --volumes only labels")
	return cmd
}

// confirm asks; no answer is no.
func confirm(cmd *cobra.Command, what string) bool {
	fmt.Fprintf(cmd.OutOrStdout(), "%s Go on? [y/N] ", what)
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}
