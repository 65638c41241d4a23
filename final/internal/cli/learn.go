//go:build linux

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/learn"
)

func learnCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "learn",
		Short: "Build the steps yourself, and have your programs checked",
		Long:  "Build the steps yourself, and have your programs checked. Without a command, it shows how far you are: the last check of each step.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := learn.Progress(e.Dirs.Root)
			if err != nil {
				return err
			}
			return printProgress(cmd.OutOrStdout(), format, all)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", formatHelp)
	cmd.AddCommand(learnNewCommand(), learnCheckCommand(e), learnHintCommand(), learnSolutionCommand())
	return cmd
}

// learnRow is the last check of a step.
type learnRow struct {
	Step    int
	Page    string
	Passed  string
	Fails   string
	Checked string
	Program string
}

func printProgress(w io.Writer, format string, all []learn.Report) error {
	var rows []learnRow
	for _, r := range all {
		row := learnRow{Step: r.Step, Page: learn.Pages[r.Step-1], Fails: r.Fails(), Program: strings.Join(r.Program, " ")}
		if len(r.Program) > 0 {
			row.Passed, row.Checked = fmt.Sprintf("%d of %d", r.Passed, r.Cases), ago(r.When)
		}
		rows = append(rows, row)
	}
	err := printFormatted(w, format, "table {{.Step}}\t{{.Page}}\t{{.Passed}}\t{{.Checked}}\t{{.Program}}", rows)
	if next := learn.Next(all); err == nil && next != "" && (format == "" || format == "table") {
		fmt.Fprintln(w, next)
	}
	return err
}

func learnNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new DIR",
		Short: "Write a program in Go in which each step is missing",
		Long: "Write a Go module into a new folder: a program with a file for each step, which builds, and says what is missing. The TODOs in " +
			"it have the order of the step's page. It needs the libraries that gocker is built of, in the same versions, so without a network " +
			"it builds where gocker does.",
		Example: "  gocker learn new ~/P",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := learn.New(args[0]); err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), learn.Made(args[0]))
			return nil
		},
	}
}

func learnCheckCommand(e *engine.Engine) *cobra.Command {
	var all bool
	var format string
	cmd := &cobra.Command{
		Use:   "check [flags] STEP PROGRAM [ARG…]",
		Short: "Check a program of yours for a step",
		Long: "Check a program of yours for a step. What it is to do stands on the step's page, under \"Build it yourself\". It runs in " +
			"a cage: it sees your files, and what it changes is gone at the end. If a user has no cgroup or no other ids, some cases " +
			"cannot be tried, and say what they need. The check stops at the first case that fails. The exit " +
			"status is 0 only if all cases pass.\n\nThese steps can be checked: " + learn.Names() + ".",
		Example: "  gocker learn check 2 ./untar\n  gocker learn check 2 python3 untar.py",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			step, err := stepNumber(args[0])
			if err != nil {
				return err
			}
			if format != "" && format != "json" {
				return fmt.Errorf("--format %q: there is only json", format)
			}
			ctx, stop := interruptible() // a cage wants to be removed
			defer stop()
			report, err := learn.Check(ctx, step, args[1:], all)
			if ctx.Err() != nil {
				return exit{128 + int(syscall.SIGINT), err}
			}
			if err != nil {
				return err
			}
			if format == "json" {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(report); err != nil {
					return err
				}
			} else {
				report.Print(cmd.OutOrStdout(), "gocker learn check "+strings.Join(args, " "))
			}
			if err := learn.Keep(e.Dirs.Root, report); err != nil {
				return err
			}
			if report.Passed < report.Cases {
				return exit{exitFailed, nil}
			}
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false) // flags after PROGRAM are its own
	cmd.Flags().BoolVar(&all, "all", false, "go on after a case that fails")
	cmd.Flags().StringVar(&format, "format", "", "`json`, for programs")
	return cmd
}

func stepNumber(arg string) (int, error) {
	step, err := strconv.Atoi(arg)
	if err != nil {
		return 0, fmt.Errorf("STEP %q: it is a number: %s", arg, learn.Names())
	}
	return step, nil
}

func learnHintCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hint STEP [DEPTH]",
		Short: "Help with a step a little, or more",
		Long: "Help with a step. Depth 1, which is the default, says where to read on the step's page, 2 says which calls are needed, and 3 in " +
			"which order.",
		Example: "  gocker learn hint 2\n  gocker learn hint 2 3",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			step, err := stepNumber(args[0])
			if err != nil {
				return err
			}
			depth := 1
			if len(args) > 1 {
				if depth, err = strconv.Atoi(args[1]); err != nil {
					return fmt.Errorf("DEPTH %q: it is a number from 1 to %d", args[1], learn.Depths)
				}
			}
			hint, err := learn.Hint(step, depth)
			fmt.Fprint(cmd.OutOrStdout(), hint)
			return err
		},
	}
}

func learnSolutionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "solution STEP",
		Short: "Show the code that gocker itself has for a step",
		Long:  "Show the code that gocker itself has for a step, function by function: to compare, when a program of yours passes.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			step, err := stepNumber(args[0])
			if err != nil {
				return err
			}
			code, err := learn.Solution(step)
			fmt.Fprint(cmd.OutOrStdout(), code)
			return err
		},
	}
}
