//go:build linux

package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/registry"
	"gocker/step01-pull/shared/advice"
)

// searchRow is a row of search, with docker's names.
type searchRow struct {
	Name        string
	Description string
	StarCount   string `header:"STARS"`
	IsOfficial  string `header:"OFFICIAL"`
	IsAutomated string `header:"AUTOMATED"`
}

func searchCommand(*engine.Engine) *cobra.Command {
	var opts registry.Options
	var limit int
	var whole bool
	var filters []string
	var format string
	cmd := &cobra.Command{
		Use:   "search [flags] [REGISTRY/]TERM",
		Short: "Search Docker Hub for images, or another registry that can be searched",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			passes, err := searchFilter(filters)
			if err != nil {
				return err
			}
			if limit < 0 || limit > 100 {
				return fmt.Errorf("--limit %d: not in the range from 1 to 100", limit)
			}
			if limit == 0 {
				limit = 25
			}
			ctx, stop := interruptible()
			defer stop()
			host, term := splitTerm(args[0])
			results, err := opts.Search(ctx, host, term, limit)
			if err != nil {
				return err
			}
			var rows []searchRow
			for _, r := range results {
				if !passes(r) {
					continue
				}
				row := searchRow{Name: r.Name, Description: strings.Join(strings.Fields(r.Description), " "), StarCount: strconv.Itoa(r.StarCount)}
				if r.IsOfficial {
					row.IsOfficial = "[OK]"
				}
				if r.IsAutomated {
					row.IsAutomated = "[OK]"
				}
				if !whole {
					row.Description = shorten(row.Description, 45)
				}
				rows = append(rows, row)
			}
			return printFormatted(cmd.OutOrStdout(), format, `table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}`, rows)
		},
	}
	f := cmd.Flags()
	f.IntVar(&limit, "limit", 0, "at most this `number`, up to 100 (default 25)")
	f.VarP((*list)(&filters), "filter", "f", "`KEY=VALUE`: is-official=true|false, stars=NUMBER (at least)")
	f.BoolVar(&whole, "no-trunc", false, "whole descriptions")
	f.StringVar(&format, "format", "", formatHelp)
	registryFlags(f, &opts)
	return cmd
}

// splitTerm parts a registry from the term, as a reference's is: it has a "." or ":" in it, or is localhost.
func splitTerm(arg string) (host, term string) {
	host, term, ok := strings.Cut(arg, "/")
	if !ok || host != "localhost" && !strings.ContainsAny(host, ".:") {
		return name.DefaultRegistry, arg
	}
	if host == "docker.io" {
		host = name.DefaultRegistry
	}
	return host, term
}

// searchFilter reads docker's filters: a result has to pass all.
func searchFilter(filters []string) (passes func(registry.Result) bool, err error) {
	var all []func(registry.Result) bool
	for _, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "is-official", "is-automated":
			var want bool
			want, err = strconv.ParseBool(value)
			all = append(all, func(r registry.Result) bool {
				return want == map[string]bool{"is-official": r.IsOfficial, "is-automated": r.IsAutomated}[key]
			})
		case "stars":
			var least int
			least, err = strconv.Atoi(value)
			all = append(all, func(r registry.Result) bool { return r.StarCount >= least })
		default:
			err = advice.Add(describe.ErrOption, "there are is-official and stars")
		}
		if err != nil {
			return nil, fmt.Errorf("--filter %q: %w", f, err)
		}
	}
	return func(r registry.Result) bool {
		for _, pass := range all {
			if !pass(r) {
				return false
			}
		}
		return true
	}, nil
}
