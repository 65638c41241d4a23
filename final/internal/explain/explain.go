// Package explain makes a script of what is told of a container: it makes the same one without gocker.
//
//	this shell                              a shell in the new namespaces
//	Host:   folders, overlay, cgroup
//	Enter:  unshare            ────────▶    Inside: mounts, below $root
//	                                        Join:   into the cgroup
//	                                        Become: exec unshare setsid setpriv env sh: it waits
//	Pivot:  its root is $root  ────────▶    its last program was found in the old one; now the command, in the new one
//	After:  unmount, remove    ◀────────    its exit status
//
// The order is another one than gocker's, which changes the root first. A shell can do nothing without programs, and it
// has those of the host until its root changes. So the very last shell is started with all that it may not have taken
// away, and only waits for that.
package explain

import (
	"fmt"
	"io"
	"strings"

	"gocker/step04-overlay/story"
)

// A Script hears a story.
type Script struct {
	Enter string // in front of "sh FILE": how a user who is not root goes into a user namespace; "" is for root
	lines [story.After + 1][]string
}

const forRoot = "# Run it as root. It needs mount, unshare, nsenter, setpriv and so on of util-linux, and ip of iproute2."

// forUser is also about newuidmap: unshare calls it.
const forUser = `# It needs mount, unshare, nsenter, setpriv and so on of util-linux 2.38, newuidmap, hostname, and ip of iproute2.
if [ "$(id -u)" != 0 ]; then exec %s sh "$0"; fi`

// Tell is the story that it hears.
func (s *Script) Tell(l story.Line) { s.lines[l.Where] = append(s.lines[l.Where], l.Command) }

// WriteTo writes it for sh.
func (s *Script) WriteTo(w io.Writer) (int64, error) {
	inside := strings.Join(append(s.lines[story.Inside], s.lines[story.Join]...), "\n")
	end := "INSIDE"
	for strings.Contains(inside, end) { // a name may be anything
		end += "_"
	}
	var first, host string
	if lines := s.lines[story.Host]; len(lines) > 0 {
		first, host = lines[0], strings.Join(lines[1:], "\n")
	}
	about := forRoot
	if s.Enter != "" {
		about = fmt.Sprintf(forUser, s.Enter)
	}
	n, err := fmt.Fprintf(w, `#!/bin/sh
%[10]s
set -e
%[1]s
tmp=$(mktemp -d)
finish() {
	set +e
	kill "$helper" 2>/dev/null
	rm -r "$tmp"
%[2]s
}
trap finish EXIT
trap 'exit 143' HUP INT TERM
%[3]s
mkfifo "$tmp/ready" "$tmp/go"
{
	read -r pid <"$tmp/ready" &&
	%[4]s &&
	echo >"$tmp/go" || kill -KILL "$pid"
} &
helper=$!
cat >"$tmp/inside" <<'%[5]s'
set -e
%[6]s
read -r pid others </proc/self/stat
exec 8>"$tmp/ready" 9<>"$tmp/go"
exec %[7]s /bin/sh -c 'echo "$0" >&8; read -r go <&9; exec 8>&- 9>&-; exec "$@"' "$pid" %[8]s
%[5]s
export tmp
%[9]s sh "$tmp/inside" 9>&-
`, first, strings.Join(s.lines[story.After], "\n"), host, strings.Join(s.lines[story.Pivot], " &&\n\t"), end, inside,
		s.become(), strings.Join(s.lines[story.Command], " "), strings.Join(s.lines[story.Enter], " "), about)
	return int64(n), err
}

// become is one program in front of the other, each of which does its part and executes the next. All of setpriv's
// options are for one: after it, a second one might not be allowed to do its part. The environment comes last, as the
// PATH in it is the container's.
func (s *Script) become() string {
	var programs, privileges, environment []string
	for _, command := range s.lines[story.Become] {
		program, options, _ := strings.Cut(command, " ")
		switch program {
		case "setpriv":
			privileges = append(privileges, options)
		case "env":
			environment = append(environment, command)
		default:
			programs = append(programs, command)
		}
	}
	if len(privileges) > 0 {
		programs = append(programs, "setpriv "+strings.Join(privileges, " "))
	}
	return strings.Join(append(programs, environment...), " ")
}
