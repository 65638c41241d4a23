//go:build linux

package learn

import (
	"embed"
	"errors"
	"fmt"
	"strings"

	"gocker/step01-pull/shared/advice"
)

// Depths is how many hints there are for a step: where to read, which calls, and in which order.
const Depths = 3

// Hint helps with a step, the more the deeper it is: 1 to Depths. Its last line is the command for more.
func Hint(step, depth int) (string, error) {
	if err := isStep(step); err != nil {
		return "", err
	}
	if depth < 1 || depth > Depths {
		return "", errors.New(say("hint %d: there are hints 1 to %d", depth, Depths))
	}
	raw, err := files.ReadFile("texts/" + language() + "/hints.txt")
	if err != nil {
		return "", err
	}
	_, after, _ := strings.Cut(string(raw), fmt.Sprintf("\n## step%d\n", step))
	section, _, _ := strings.Cut(after, "\n## ")
	var lines []string
	for line := range strings.Lines(section) {
		if text, ok := strings.CutPrefix(line, []string{"where: ", "calls: ", "order: "}[depth-1]); ok {
			lines = append(lines, text)
		}
	}
	more := fmt.Sprintf("gocker learn hint %d %d", step, depth+1)
	if depth == Depths {
		more = fmt.Sprintf("gocker learn solution %d", step)
	}
	return strings.Join(lines, "") + "\n" + say("more: %s", more) + "\n", nil
}

// solutions are functions of the steps: see TestSolutionsShowTheCodeAsItIs.
//
//go:embed solutions
var solutions embed.FS

// Solution is the code of a step, function by function.
func Solution(step int) (string, error) {
	if err := isStep(step); err != nil {
		return "", err
	}
	raw, err := solutions.ReadFile(fmt.Sprintf("solutions/step%d.txt", step))
	return strings.TrimRight(string(raw), "\n") + "\n", err
}

func isStep(step int) error {
	if _, ok := steps()[step]; !ok {
		return advice.Add(errors.New(say("step %d: there is none", step)), "%s", say("the steps are %s", Names()))
	}
	return nil
}
