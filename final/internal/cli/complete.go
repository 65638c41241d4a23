//go:build linux

package cli

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"gocker/final/internal/capabilities"
	"gocker/final/internal/engine"
	"gocker/final/internal/signame"
)

// What a shell offers for an argument or the value of a flag is what the help says of it:
//
//	rm CONTAINER…                                 the names of containers
//	--pull always|missing|never                   these three words
//	--filter KEY=VALUE: id=, before=CONTAINER     id=, and before= with each container
//	--cidfile file                                files
//	--name name                                   nothing: only the user knows

// A completer completes for one command.
type completer struct {
	e   *engine.Engine
	cmd *cobra.Command
}

// complete has every command below cmd complete its arguments and its flags' values.
func complete(e *engine.Engine, cmd *cobra.Command) {
	c := completer{e, cmd}
	if cmd.ValidArgs == nil {
		cmd.ValidArgsFunction = c.argument
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		value, usage := pflag.UnquoteUsage(f)
		f.Usage = usage          // shells show it
		if f.NoOptDefVal == "" { // else what follows is no value
			cmd.RegisterFlagCompletionFunc(f.Name, func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
				return c.flag(f, value, word)
			})
		}
	})
	for _, sub := range cmd.Commands() {
		complete(e, sub)
	}
}

// files has the shell itself complete a word.
func files() ([]string, cobra.ShellCompDirective) { return nil, cobra.ShellCompDirectiveDefault }

// among are those words that begin with what is typed. If only the beginning of a value is known, no blank follows it.
func among(typed string, words []string) ([]string, cobra.ShellCompDirective) {
	words = slices.DeleteFunc(words, func(word string) bool { return !strings.HasPrefix(word, typed) })
	directive := cobra.ShellCompDirectiveNoFileComp
	if len(words) > 0 && !slices.ContainsFunc(words, func(word string) bool { return !strings.ContainsAny(word[len(word)-1:], "=:,") }) {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return words, directive
}

// argument completes a word by its place in the usage.
func (c completer) argument(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if c.cmd.Name() == "cp" { // each side may be in the container; else it is a file
		if names, directive := among(word, suffixed(c.expand("CONTAINER", ""), ":")); len(names) > 0 || strings.Contains(word, ":") {
			return names, directive
		}
		return files()
	}
	_, usage, _ := strings.Cut(strings.NewReplacer("[flags] ", "", "NAME[:TAG]", "IMAGE").Replace(c.cmd.Use), " ")
	places := strings.Fields(usage)
	if len(places) == 0 {
		return among(word, nil)
	}
	place := places[min(len(args), len(places)-1)]
	if len(args) >= len(places) && !strings.Contains(place, "…") {
		return among(word, nil)
	}
	switch place = strings.Trim(place, "[]"); {
	case place == "FILE|-":
		return files()
	case place == "NAME…": // of inspect
		place = "CONTAINER|IMAGE|VOLUME|NETWORK"
	}
	names := c.expand(strings.TrimRight(place, "…]"), word)
	return among(word, slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) }))
}

// Values of flags by what the help calls them.
var (
	fileValues = []string{"file", "folder", "HOST[:CONTAINER][:rwm]", "DEVICE:NUMBER"}
	// Only the user knows these.
	freeValues = []string{"'c 189:* rwm'", "/DIR[:options]", "ADDRESS/BITS", "CONTAINER:HOST:SIZE", "KEY=value", "NAME:ADDRESS", "NAME=ADDRESS", "NAME=VALUE", "[[IP:]HOSTPORT:]PORT[/udp]",
		"address", "bits", "bytes", "command", "daemon", "domain", "groups", "int", "keys", "limit", "line", "lines", "microseconds", "name", "nodes", "number",
		"option", "path", "port", "processes", "processors", "registry", "seconds", "size", "string", "text", "time", "user[:group]", "weight"}
)

// otherWords are for flags whose help has other words.
func otherWords(flag string) (words string, ok bool) {
	switch flag {
	case "driver":
		return "bridge", true
	case "ipam-driver":
		return "default", true
	case "scope":
		return "local", true
	case "uts":
		return "host", true
	case "userns":
		return "host|auto|keep-id|nomap", true
	case "env":
		return "VARIABLE", true
	case "workdir":
		return "", true
	case "network":
		return "NETWORK, container:CONTAINER", true
	case "pid":
		return "host|container:CONTAINER", true
	case "ipc":
		return "host|private|shareable|none|container:CONTAINER", true
	case "log-opt":
		return "max-size=, max-file=", true
	case "platform":
		return "linux/amd64|linux/arm64|linux/arm/v7|linux/arm/v6|linux/386|linux/ppc64le|linux/riscv64|linux/s390x", true
	case "ulimit":
		return "core=, cpu=, data=, fsize=, locks=, memlock=, msgqueue=, nice=, nofile=, nproc=, rss=, rtprio=, rttime=, sigpending=, stack=", true
	case "security-opt":
		return "no-new-privileges|no-listener, seccomp=unconfined, systempaths=unconfined", true
	}
	return "", false
}

// flag completes the value of a flag.
func (c completer) flag(f *pflag.Flag, value, word string) ([]string, cobra.ShellCompDirective) {
	words, known := otherWords(f.Name)
	switch {
	case f.Name == "volume":
		return c.volume(word)
	case f.Name == "mount":
		return c.mount(word)
	case f.Name == "security-opt" && strings.HasPrefix(word, "seccomp=") && !strings.HasPrefix("seccomp=unconfined", word):
		return files()
	case f.Name == "driver" && c.cmd.Parent().Name() == "volume":
		words = "local"
	case known:
	case slices.Contains(fileValues, value):
		return files()
	case slices.Contains(freeValues, value):
		return among(word, nil)
	case value == "json": // or a template
		words = "json"
		if strings.Contains(f.Usage, "'table ") {
			words += "|table"
		}
	case value == "KEY=VALUE":
		_, words, _ = strings.Cut(f.Usage, ": ")
		words, _, _ = strings.Cut(words, "; ")
	case value == "signal", value == "capabilities", strings.HasPrefix(value, "CONTAINER"), strings.Contains(value, "|"):
		words = value
	default: // a test finds it
		return nil, cobra.ShellCompDirectiveError
	}
	done := ""
	if f.Value.Type() == "stringSlice" {
		done = word[:strings.LastIndex(word, ",")+1]
	}
	return among(word, prefixed(done, c.expand(words, word[len(done):])))
}

func prefixed(prefix string, words []string) []string {
	for i := range words {
		words[i] = prefix + words[i]
	}
	return words
}

// expand makes words of "no|on-failure[:times]", or of "id=, before=CONTAINER, type=container|image". What stands in capital letters
// is looked up; if nothing is known of it, only the user knows. What follows "before=" comes when that is typed.
func (c completer) expand(text, typed string) (words []string) {
	optional := regexp.MustCompile(`\[[^]]*\]`) // label=KEY[=VALUE]
	for part := range strings.SplitSeq(optional.ReplaceAllString(text, ""), ", ") {
		part, _, _ = strings.Cut(part, " ") // an explanation
		equals := strings.LastIndex(part, "=") + 1
		for value := range strings.SplitSeq(part[equals:], "|") {
			colon := strings.LastIndex(value, ":") + 1
			prefix, name := part[:equals]+value[:colon], value[colon:]
			names, known := c.names(name, typed)
			switch {
			case prefix != "" && !strings.HasPrefix(typed, prefix):
				words = append(words, prefix)
			case known:
				words = append(words, prefixed(prefix, names)...)
			case name != strings.ToUpper(name):
				words = append(words, prefix+name)
			}
		}
	}
	return slices.Compact(words) // type= of type=container|image
}

// names are those that stand for a word of the help. A completion cannot tell an error.
func (c completer) names(word, typed string) (names []string, known bool) {
	switch word {
	case "CONTAINER":
		states, _ := c.e.Containers().List()
		conditions := wants(c.cmd.Name())
		for _, s := range states {
			if conditions == nil || slices.Contains(conditions, s.Condition()) {
				names = append(names, s.Name)
			}
		}
	case "IMAGE":
		images, _ := c.e.Images().Names()
		for _, name := range slices.Sorted(maps.Keys(images)) {
			for _, tag := range slices.Sorted(maps.Keys(images[name])) {
				if !strings.HasPrefix(tag, "sha256:") {
					names = append(names, name+":"+tag)
				}
			}
		}
	case "VOLUME":
		volumes, _ := c.e.Volumes().List()
		for _, v := range volumes {
			names = append(names, v.Name)
		}
	case "NETWORK":
		networks, _ := c.e.Networks().ListAll()
		for _, n := range networks {
			names = append(names, n.Name)
		}
	case "VARIABLE":
		for _, variable := range os.Environ() {
			name, _, _ := strings.Cut(variable, "=")
			names = append(names, name)
		}
	case "signal":
		for sig := range unix.Signal(65) {
			if name := signame.Of(sig); name != "" {
				names = append(names, name)
			}
		}
	case "capabilities":
		all, _ := capabilities.All()
		for _, name := range append(all, "ALL") {
			if !strings.HasPrefix(typed, "C") { // chown, or CAP_CHOWN
				name = strings.TrimPrefix(name, "CAP_")
			}
			names = append(names, name)
		}
	default:
		return nil, false
	}
	return names, true
}

// wants says in which conditions a container is one for a command; nil is all.
func wants(command string) []string {
	switch command {
	case "start":
		return []string{"created", "exited"}
	case "pause", "exec", "attach":
		return []string{"running"}
	case "unpause":
		return []string{"paused"}
	case "stop", "kill", "top", "stats", "lsns":
		return []string{"running", "paused", "restarting"}
	}
	return nil
}

// volume completes SOURCE:/DIR: what is before the colon is a volume's name, or a folder of the host.
func (c completer) volume(word string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(word, ":") {
		return among(word, nil)
	}
	names, _ := c.names("VOLUME", "")
	if matching, directive := among(word, suffixed(names, ":")); len(matching) > 0 {
		return matching, directive
	}
	return files()
}

func suffixed(words []string, suffix string) []string {
	for i := range words {
		words[i] += suffix
	}
	return words
}

// mount completes the last part of type=bind,source=/DIR,target=/DIR.
func (c completer) mount(word string) ([]string, cobra.ShellCompDirective) {
	begin := strings.LastIndex(word, ",") + 1
	done, last := word[:begin], word[begin:]
	isVolume := strings.Contains(done, "type=volume,")
	if !isVolume && (strings.HasPrefix(last, "source=") || strings.HasPrefix(last, "src=")) {
		return files()
	}
	words := "type=bind|volume|tmpfs, source=, target=, readonly"
	if isVolume {
		words = "source=VOLUME, target=, readonly"
	}
	return among(word, prefixed(done, c.expand(words, last)))
}
