//go:build linux

// Package learn checks programs that learners build: one for each step, in any language. What such a program does stands
// on the step's page, under "Build it yourself".
//
//	report, err := learn.Check(ctx, 2, []string{"./untar"}, false)
//	report.Print(os.Stdout, "gocker learn check 2 ./untar")
//
// The cases of a step are in a file of their own, easy ones first: step1.go, … What they expect is what the step's own code
// makes of the same input, and the attacks are those of its tests. Each case has a cage of its own: see package cage. What is
// asked and why is in texts/, by language; see say for all else that a learner reads.
package learn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gocker/final/internal/learn/cage"
)

// most is how long a program may take for one thing.
const most = 10 * time.Second

// A Report is what became of a program.
type Report struct {
	Step    int       `json:"step"`
	Program []string  `json:"program"` // by an absolute name, and its arguments
	Passed  int       `json:"passed"`
	Cases   int       `json:"cases"`
	Skipped int       `json:"skipped,omitempty"` // how many of them could not be tried
	Seconds float64   `json:"seconds"`
	When    time.Time `json:"when"`
	Results []Result  `json:"results"` // of the cases that were tried
}

// A Result is that of one case.
type Result struct {
	Case     string   `json:"case"`
	OK       bool     `json:"ok"`
	Skipped  string   `json:"skipped,omitempty"`  // why it could not be tried
	Asks     string   `json:"asks"`               // what a right program does
	Ran      []string `json:"ran,omitempty"`      // the commands, if it failed
	Input    []string `json:"input,omitempty"`    // what was in the files that it was given
	Expected string   `json:"expected,omitempty"` // a line for each thing that is different
	Happened string   `json:"happened,omitempty"`
	Wrote    string   `json:"wrote,omitempty"` // to its standard error
	Why      string   `json:"why,omitempty"`   // the reason, in a sentence or two
	Page     string   `json:"page,omitempty"`  // the paragraph that explains it
}

// A kase is one question to a program. Its name is that of its text.
type kase struct {
	name string
	try  func(*trial) error
}

// steps are those that can be checked.
func steps() map[int]func() ([]kase, error) {
	return map[int]func() ([]kase, error){1: pullCases, 2: untarCases, 3: layersCases, 4: mountCases, 5: runCases, 6: limitCases}
}

// Names are the numbers of the steps that can be checked, for people.
func Names() string {
	var names []string
	for _, step := range slices.Sorted(maps.Keys(steps())) {
		names = append(names, fmt.Sprint(step))
	}
	return strings.Join(names, ", ")
}

// Check tries the cases of a step, until one fails; with all it goes on. An error is that the checker itself could not work, or
// that ctx was done.
func Check(ctx context.Context, step int, program []string, all bool) (Report, error) {
	report := Report{Step: step, Program: program}
	if err := isStep(step); err != nil {
		return report, err
	}
	list, err := steps()[step]()
	if err != nil {
		return report, err
	}
	err = report.try(ctx, list, all)
	return report, err
}

// try tries these cases.
func (r *Report) try(ctx context.Context, list []kase, all bool) error {
	says, err := readTexts(language(), r.Step)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(r.Program[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return errors.New(say("the program to check: %v", err))
	}
	r.Program = append([]string{path}, r.Program[1:]...)
	r.Cases, r.When = len(list), time.Now().Round(time.Second)
	began := time.Now()
	for _, c := range list {
		result, err := try(ctx, c, r.Program, says)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("case %q: %w", c.name, err)
		}
		r.Results = append(r.Results, result)
		switch {
		case result.OK:
			r.Passed++
		case result.Skipped != "":
			r.Skipped++
		case !all:
			r.Seconds = time.Since(began).Seconds()
			return nil
		}
	}
	r.Seconds = time.Since(began).Seconds()
	return nil
}

// try tries one case in a cage of its own.
func try(ctx context.Context, c kase, program []string, says texts) (result Result, err error) {
	in, err := cage.New()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	defer context.AfterFunc(ctx, in.Kill)()
	t := &trial{Cage: in, program: program}
	result = Result{Case: c.name, Asks: says[c.name].asks}
	err = c.try(t)
	if err == nil {
		err = t.nothingLeft()
	}
	if reached := in.Reached(); reached != "" && t.limits == nil { // else it may be the program's own limit
		err = failed(reached, "", "")
	}
	var skip *skipped
	if errors.As(err, &skip) {
		result.Skipped = skip.why
		return result, nil
	}
	var wrong *failure
	if !errors.As(err, &wrong) {
		result.OK = err == nil
		return result, err
	}
	text := says[c.name]
	if wrong.text != "" {
		text = says[wrong.text]
	}
	result.Ran, result.Input, result.Wrote = t.ran, t.input, strings.TrimSpace(t.stderr)
	result.Expected, result.Happened, result.Why, result.Page = wrong.expected, wrong.happened, text.why, text.page
	return result, nil
}
