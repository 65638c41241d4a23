//go:build linux

package describe

import (
	"cmp"

	docker "github.com/moby/moby/api/types/container"

	"gocker/final/internal/images"
)

// inheritHealth completes a health check that the user wants, if any, by what an image has.
func inheritHealth(own, image *docker.HealthConfig) *docker.HealthConfig {
	if own == nil || image == nil {
		return cmp.Or(own, image)
	}
	h := *own
	if len(h.Test) == 0 {
		h.Test = image.Test
	}
	h.Interval, h.Timeout = cmp.Or(h.Interval, image.Interval), cmp.Or(h.Timeout, image.Timeout)
	h.StartPeriod, h.StartInterval = cmp.Or(h.StartPeriod, image.StartPeriod), cmp.Or(h.StartInterval, image.StartInterval)
	h.Retries = cmp.Or(h.Retries, image.Retries)
	return &h
}

// InheritHealth completes the health check, and returns the command that asks the container whether it works: nil if nothing
// does.
func (o *Options) InheritHealth(image images.Config) (probe []string) {
	o.Healthcheck = inheritHealth(o.Healthcheck, image.Healthcheck)
	if o.Healthcheck == nil || len(o.Healthcheck.Test) < 2 {
		return nil
	}
	switch command := o.Healthcheck.Test[1:]; o.Healthcheck.Test[0] {
	case "CMD":
		return command
	case "CMD-SHELL":
		return append(cmpOr(image.Shell, []string{"/bin/sh", "-c"}), command...)
	}
	return nil // NONE
}
