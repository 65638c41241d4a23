//go:build linux

package life

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"gocker/final/internal/containers"
)

// Boot starts the containers that are to run after a start of the machine, by their restart policies, the oldest first. If a
// container joins the namespaces of others, or is linked to them, Boot starts those first. If one does not start, failed
// hears why, and Boot starts the others all the same.
func (life Life) Boot(started func(name string), failed func(error)) {
	all, err := life.Containers.List()
	if err != nil {
		failed(err)
	}
	if err := life.Containers.MoveElders(); err != nil {
		failed(err)
	}
	slices.Reverse(all)
	tried := map[string]bool{}
	var boot func(s containers.State)
	boot = func(s containers.State) {
		if tried[s.ID] {
			return
		}
		tried[s.ID] = true
		if s.Active() || !s.Boots() {
			return
		}
		for _, name := range needs(s) {
			if other, err := life.Containers.Find(name); err == nil {
				boot(other)
			}
		}
		if err := life.Start(s.ID, nil); err != nil {
			failed(fmt.Errorf("start %s: %w", s.Name, err))
			return
		}
		started(s.Name)
	}
	for _, s := range all {
		boot(s)
	}
}

// Halt stops all containers at once, as the machine is about to stop. Their restart policies still hold at its next start.
func (life Life) Halt(stopped func(name string), failed func(error)) {
	all, err := life.Containers.List()
	if err != nil {
		failed(err)
	}
	var mu sync.Mutex
	var each sync.WaitGroup
	for _, s := range all {
		if !s.Active() {
			continue
		}
		each.Go(func() {
			err := life.Stop(s.ID, StopOptions{Halt: true})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed(fmt.Errorf("stop %s: %w", s.Name, err))
			} else {
				stopped(s.Name)
			}
		})
	}
	each.Wait()
	if err := life.Containers.MoveElders(); err != nil {
		failed(err)
	}
}

// needs are the containers that must run before one can start, by id or name.
func needs(s containers.State) (names []string) {
	for _, joined := range s.Options.Isolation.Others() {
		names = append(names, joined.Name())
	}
	for _, want := range s.Options.Network.Wants {
		for _, link := range want.Links {
			name, _, _ := strings.Cut(link, ":")
			names = append(names, name)
		}
	}
	return names
}
