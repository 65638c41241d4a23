//go:build linux

package rootless

import (
	"fmt"
	"path/filepath"
	"strings"

	"gocker/step04-overlay/story"
)

// Told is a story of what is done where the networks are.
func Told(tell story.Story) story.Story {
	if tell == nil || !Apart() {
		return tell
	}
	enter := "nsenter --net=" + story.Quote(uplinkFile("netns")) + " "
	return func(l story.Line) {
		switch {
		case l.Where == story.Host:
			l.Command = enter + "sh -c " + story.Quote(l.Command)
		case strings.HasPrefix(l.Command, "ip "): // and not "nsenter --target=…"; $pid is not to be in quotes
			l.Command = enter + l.Command
		}
		tell(l)
	}
}

// TellNetwork tells of the network namespace, and of what connects it.
func TellNetwork(tell story.Story) {
	if !Apart() {
		return
	}
	file := story.Quote(uplinkFile("netns"))
	isThere := fmt.Sprintf(`[ "$(stat -f -c %%T %s)" = nsfs ]`, file)
	tell.Sh(story.Host, "a network namespace that stands for the host, unless it is there",
		fmt.Sprintf("%s || { touch %s && unshare --net sh -c %s; }", isThere, file, story.Quote("ip link set lo up && mount --bind /proc/self/ns/net "+file)))
	connect := story.Quote(append(pastaArgs(), "--foreground")...)
	if program, _ := findUplink(); filepath.Base(program) == "slirp4netns" {
		connect = story.Quote(slirpArgs()...)
	}
	there := fmt.Sprintf("nsenter --net=%s ip link show dev %s >/dev/null 2>&1", file, uplinkDevice)
	tell.Sh(story.Host, "what connects it with the host's, unless it is there",
		fmt.Sprintf(`%s || { %s & uplink=$!; while ! %s && kill -0 "$uplink"; do sleep 0.1; done; }`, there, connect, there))
	tell.Sh(story.After, "nobody needs it any more", `[ -z "$uplink" ] || kill "$uplink"`)
}
