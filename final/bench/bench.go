//go:build linux

// Package bench is what the comparisons below it share.
package bench

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Median is the middle one of the values, of which there is at least one.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// MedianRatio is the median of ours / theirs, round by round: what the machine did beside it, it did to both.
func MedianRatio(ours, theirs []float64) float64 {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	return Median(ratios)
}

// Do runs a command that is not measured. Its output goes to no pipe of ours: a container that stays would hold it open.
func Do(args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}
