//go:build linux

package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/events"
	"gocker/final/internal/filter"
)

func eventsCommand(e *engine.Engine) *cobra.Command {
	var since, until, format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "events [flags]",
		Short: "Show what happens to containers, images, volumes and networks, as it happens",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, fromErr := parseTime("since", since)
			to, toErr := parseTime("until", until)
			wanted, filterErr := eventFilter(filters)
			show, formatErr := eventFormat(cmd, format)
			if err := errors.Join(fromErr, toErr, filterErr, formatErr); err != nil {
				return err
			}
			return e.Events().Read(from, to, func(event events.Event) error {
				if !wanted(event) {
					return nil
				}
				return show(event)
			}, say)
		},
	}
	f := cmd.Flags()
	timeFlags(f, &since, &until)
	f.StringVar(&format, "format", "", "`json`, or a template of Go: {{.Action}} {{.Actor.ID}}")
	f.VarP((*list)(&filters), "filter", "f", "`KEY=VALUE`: container=CONTAINER, event=, image=IMAGE, label=KEY[=VALUE], network=NETWORK, type=container|image|network|volume, volume=VOLUME")
	return cmd
}

// eventFilter reads filters. An event passes if for every key it has one of the values.
func eventFilter(filters []string) (wanted func(events.Event) bool, err error) {
	keys := map[string][]string{}
	for _, text := range filters {
		key, value, _ := strings.Cut(text, "=")
		if !slices.Contains([]string{"container", "event", "image", "label", "network", "type", "volume"}, key) {
			return nil, fmt.Errorf("--filter %q: there are container, event, image, label, network, type and volume", text)
		}
		keys[key] = append(keys[key], value)
	}
	has := func(event events.Event, key, value string) bool {
		attributes := event.Actor.Attributes
		switch key {
		case "container", "network", "volume":
			return key == event.Type && (value == attributes["name"] || value != "" && strings.HasPrefix(event.Actor.ID, value))
		case "event":
			action, _, _ := strings.Cut(event.Action, ": ") // exec_start: COMMAND
			return value == event.Action || value == action
		case "image":
			names := []string{attributes["image"]}
			if event.Type == "image" {
				names = []string{event.Actor.ID, attributes["name"]}
			}
			return slices.Contains(names, value) || slices.Contains(names, value+":latest")
		case "label":
			name, want, hasValue := strings.Cut(value, "=")
			got, ok := attributes[name]
			return ok && (!hasValue || got == want)
		}
		return value == event.Type
	}
	return func(event events.Event) bool {
		for key, values := range keys {
			if !slices.ContainsFunc(values, func(value string) bool { return has(event, key, value) }) {
				return false
			}
		}
		return true
	}, nil
}

// eventFormat is how an event is printed: docker's line if nothing else is asked for.
func eventFormat(cmd *cobra.Command, format string) (func(events.Event) error, error) {
	if format == "" {
		return func(event events.Event) error {
			var attributes []string
			for _, key := range slices.Sorted(maps.Keys(event.Actor.Attributes)) {
				attributes = append(attributes, onOneLine(key)+"="+onOneLine(event.Actor.Attributes[key]))
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s %s (%s)\n", time.Unix(0, event.TimeNano).Format(filter.Nanoseconds),
				event.Type, onOneLine(event.Action), event.Actor.ID, strings.Join(attributes, ", "))
			return err
		}, nil
	}
	if err := printRows[eventRow](io.Discard, format, "", false, nil); err != nil { // now, and not with the first event
		return nil, err
	}
	return func(event events.Event) error {
		return printRows(cmd.OutOrStdout(), format, "", false, []eventRow{eventRowOf(event)})
	}, nil
}

// An eventRow is an event with the fields that docker's had first, and still have.
type eventRow struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"` // the image
	events.Event
}

func eventRowOf(event events.Event) eventRow {
	switch event.Type {
	case "container":
		return eventRow{event.Action, event.Actor.ID, event.Actor.Attributes["image"], event}
	case "image":
		return eventRow{event.Action, event.Actor.ID, "", event}
	}
	return eventRow{Event: event}
}

// onOneLine is a text without what moves the cursor.
func onOneLine(text string) string {
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}
