//go:build linux

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gocker/final/internal/containers"
	"gocker/final/internal/engine"
	"gocker/final/internal/look"
)

// statsRow is a row of stats, with docker's names.
type statsRow struct {
	Container string // as the user named it
	ID        string `header:"CONTAINER ID"`
	Name      string
	CPUPerc   string `header:"CPU %"`
	MemUsage  string `header:"MEM USAGE / LIMIT"`
	MemPerc   string `header:"MEM %"`
	NetIO     string `header:"NET I/O"`
	BlockIO   string `header:"BLOCK I/O"`
	PIDs      string `header:"PIDS"`
}

const statsTable = `table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}`

// statsTime is how long containers are looked at for each row: the share of the processors is that in it.
const statsTime = time.Second

func statsCommand(e *engine.Engine) *cobra.Command {
	var s stats
	var noStream bool
	cmd := &cobra.Command{
		Use:   "stats [flags] [CONTAINER…]",
		Short: "Show what running containers use, and keep it up to date",
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Engine, s.names = e, args
			before, err := s.read()
			for err == nil {
				time.Sleep(statsTime)
				if before, err = s.show(cmd.OutOrStdout(), before); noStream || len(args) > 0 && len(before) == 0 {
					break
				}
			}
			return errors.Join(err, s.unread)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&s.all, "all", "a", false, "also show containers that do not run")
	f.BoolVar(&noStream, "no-stream", false, "show it only once")
	f.BoolVar(&s.noTrunc, "no-trunc", false, "whole ids")
	f.StringVar(&s.format, "format", "", formatHelp)
	return cmd
}

type stats struct {
	*engine.Engine
	names        []string // empty: all
	all, noTrunc bool
	format       string
	begun        bool
	unread       error // of containers that could not be read, when they were listed last
}

// read reads what each container uses now, in the order of the names or of ps. One that was named and is gone is an
// error only at the beginning.
func (s *stats) read() (usages []look.Usage, err error) {
	names := s.names
	if len(names) == 0 {
		var states []containers.State
		states, s.unread = s.Containers().List()
		for _, state := range states {
			names = append(names, state.ID)
		}
	}
	for _, name := range names {
		u, err := s.Look().Stats(name)
		if errors.Is(err, containers.ErrNoContainer) && (s.begun || len(s.names) == 0) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.all || len(s.names) > 0 || u.Status == specs.StateRunning {
			usages = append(usages, u)
		}
	}
	s.begun = true
	return usages, nil
}

// show prints what containers use, and which share of a processor they used since before.
func (s *stats) show(w io.Writer, before []look.Usage) ([]look.Usage, error) {
	now, err := s.read()
	if err != nil {
		return nil, err
	}
	var rows []statsRow
	for _, u := range now {
		row := statsRow{
			Container: u.ID, ID: u.ID, Name: u.Name, CPUPerc: "0.00%", MemPerc: "0.00%",
			MemUsage: units.BytesSize(float64(u.Memory)) + " / " + units.BytesSize(float64(u.MemoryLimit)),
			NetIO:    humanBytes(u.Received) + " / " + humanBytes(u.Sent),
			BlockIO:  humanBytes(u.Read) + " / " + humanBytes(u.Written),
			PIDs:     fmt.Sprint(u.Pids),
		}
		for _, name := range s.names {
			if name == u.Name || strings.HasPrefix(u.Whole(), name) {
				row.Container = name
			}
		}
		if s.noTrunc {
			row.ID = u.Whole()
		}
		if u.MemoryLimit > 0 {
			row.MemPerc = fmt.Sprintf("%.2f%%", 100*float64(u.Memory)/float64(u.MemoryLimit))
		}
		for _, b := range before {
			if b.ID == u.ID && u.CPU >= b.CPU { // else it was started anew
				row.CPUPerc = fmt.Sprintf("%.2f%%", 100*float64(u.CPU-b.CPU)/float64(u.At.Sub(b.At)))
			}
		}
		rows = append(rows, row)
	}
	var out bytes.Buffer
	if err := printFormatted(&out, s.format, statsTable, rows); err != nil {
		return nil, err
	}
	text := out.String()
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		// To the top, and over what is there: see console_codes(4).
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err = io.WriteString(w, text)
	return now, err
}

func humanBytes(n uint64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
