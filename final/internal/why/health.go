//go:build linux

package why

import (
	"fmt"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
)

// failedProbe is the last result of a container's health check, if it runs and that failed too often.
func (c Case) failedProbe() *docker.HealthcheckResult {
	if c.Health == nil || c.Health.Status != docker.Unhealthy || c.Health.FailingStreak == 0 || !c.runs() {
		return nil
	}
	return c.Health.Log[len(c.Health.Log)-1]
}

func (c Case) health() []Reason {
	last := c.failedProbe()
	if last == nil {
		return nil
	}
	what := fmt.Sprintf("its health check %q failed %d times in a row, at last at %s", strings.Join(c.Probe, " "), c.Health.FailingStreak, last.Start.Local().Format(time.TimeOnly))
	if last.ExitCode > 0 { // else it did not end by itself
		what += fmt.Sprintf(" with status %d", last.ExitCode)
	}
	return []Reason{{what, "it is run in the container, by its user and with its programs; to run it now: gocker healthcheck run " + c.Name}}
}

// asked is what the last health check wrote, if it failed: the last lines.
func (c Case) asked() []string {
	last := c.failedProbe()
	if last == nil || last.Output == "" {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(last.Output), "\n")
	return lines[max(0, len(lines)-5):]
}
