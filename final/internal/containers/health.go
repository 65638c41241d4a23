//go:build linux

package containers

import (
	"cmp"
	"path/filepath"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/dirs"
)

// healthName is the file of what the last probes of a container found. It is no part of its state, which lists read: so
// that is written only when the container's health changes.
const healthName = "health.json"

type health struct {
	Started       time.Time // the run of the container that the streak belongs to
	FailingStreak int
	Log           []*docker.HealthcheckResult // the oldest first
}

// These are docker's numbers.
const (
	mostResults    = 5
	defaultRetries = 3
)

// HealthStatus is docker's: "none" for a container that nobody asks, "unhealthy" for one that nobody asks any more.
func (s State) HealthStatus() docker.HealthStatus {
	switch {
	case len(s.Probe) == 0 || s.Started.IsZero():
		return docker.NoHealthcheck
	case s.Status != specs.StateRunning || s.Paused:
		return docker.Unhealthy
	}
	return cmp.Or(s.Health, docker.Starting)
}

// Health is what the last probes of a container found. It is nil if there were to be none.
func (store Store) Health(s State) (*docker.Health, error) {
	status := s.HealthStatus()
	if status == docker.NoHealthcheck {
		return nil, nil
	}
	h, err := readHealth(store.Dirs.Container(s.ID), s)
	return &docker.Health{Status: status, FailingStreak: h.FailingStreak, Log: h.Log}, err
}

// readHealth reads it; a run of the container begins without failures.
func readHealth(folder string, s State) (h health, err error) {
	if err = dirs.ReadJSON(filepath.Join(folder, healthName), &h); dirs.Lost(err) { // there was no probe yet, or a disk was full
		h, err = health{}, nil
	}
	if !h.Started.Equal(s.Started) {
		h.Started, h.FailingStreak = s.Started, 0
	}
	return h, err
}

// NoteProbe notes what a probe found. asked is the container's state when it was asked: of another run it says nothing.
// Failures before the end of its start period do not count.
func (store Store) NoteProbe(asked State, r docker.HealthcheckResult) error {
	folder := store.Dirs.Container(asked.ID)
	lock, err := dirs.LockExisting(filepath.Join(folder, "fs"))
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := readState(folder)
	if err != nil {
		return err
	}
	if s.Status != specs.StateRunning || s.Pid != asked.Pid {
		return nil
	}
	h, err := readHealth(folder, s)
	if err != nil {
		return err
	}
	h.Log = append(h.Log[max(0, len(h.Log)-mostResults+1):], &r)
	before, now := s.Health, s.Health
	switch config := s.Options.Healthcheck; {
	case r.ExitCode == 0:
		h.FailingStreak, now = 0, docker.Healthy
	case before == docker.Starting && r.Start.Sub(s.Started) < config.StartPeriod:
	default:
		retries := config.Retries
		if retries <= 0 { // an image's may be negative
			retries = defaultRetries
		}
		if h.FailingStreak++; h.FailingStreak >= retries {
			now = docker.Unhealthy
		}
	}
	if err := writeJSON(filepath.Join(folder, healthName), h); err != nil || now == before {
		return err
	}
	s.Health = now
	if err := writeJSON(filepath.Join(folder, stateName), s); err != nil {
		return err
	}
	store.Note("health_status: "+string(now), s)
	return nil
}
