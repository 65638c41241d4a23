//go:build linux

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker/cli/pkg/kvfile"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/life"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/story"
)

func runCommand(e *engine.Engine) *cobra.Command {
	var detach bool
	var streamNames []string
	var attached life.AttachOptions
	var usage bool
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG…]]",
		Short: "Run a command in a new container",
		Example: `  gocker run --rm sample sh -c 'echo $$; hostname'
  gocker run --rm -it -m 64m --cpus 0.5 alpine`,
		Args: wantImage,
	}
	runFlags(e, cmd, exitGocker, func(l life.Life, opts describe.Options, say sayer, tell story.Story) error {
		opts.Usage = usage
		if opts.Detached = detach; detach {
			if len(streamNames) > 0 {
				return exit{exitFailed, errors.New("--detach and --attach contradict each other")}
			}
			if opts.Usage {
				return exit{exitGocker, advice.Add(errors.New("--detach and --usage contradict each other"), "gocker inspect --format '{{.Usage}}' tells it after the end")}
			}
			id, err := l.Detach(opts, say, tell)
			if err != nil {
				return exit{failedStatus(err, exitGocker), err}
			}
			fmt.Fprintln(cmd.OutOrStdout(), id)
			return nil
		}
		streams, err := attachedStreams(streamNames)
		if err != nil {
			return exit{exitGocker, err}
		}
		if streams.Stdout == nil && streams.Stderr == nil { // nobody sees its output: as with --detach its id is printed
			attached.Started = func(id string) { fmt.Fprintln(cmd.OutOrStdout(), id) }
		}
		status, err := l.Run(opts, attached, streams, say, tell)
		return ended(status, err, exitGocker)
	})
	f := cmd.Flags()
	f.BoolVarP(&detach, "detach", "d", false, "run it in the background and print its id; gocker logs shows its output")
	f.BoolVar(&usage, "usage", false, "at its end print one line on standard error with the kernel's counters: memory, processor time, input and output")
	f.VarP((*commaList)(&streamNames), "attach", "a", "`stdin|stdout|stderr`: connect only these")
	attachFlags(f, &attached)
	return cmd
}

func createCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create [flags] IMAGE [COMMAND [ARG…]]",
		Short: "Make a container, but do not start it",
		Args:  wantImage,
	}
	runFlags(e, cmd, exitFailed, func(l life.Life, opts describe.Options, say sayer, tell story.Story) error {
		id, err := l.Create(opts, say, tell)
		if err != nil {
			return exit{failedStatus(err, exitFailed), err}
		}
		fmt.Fprintln(cmd.OutOrStdout(), id)
		return nil
	})
	cmd.Flags().VarP(new(commaList), "attach", "a", "`stdin|stdout|stderr`: changes nothing; gocker start has --attach and --interactive")
	return cmd
}

func wantImage(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s wants an IMAGE; see: gocker %[1]s --help", cmd.Name())
	}
	return nil
}

// A sayer tells the user what happens on the way.
type sayer = func(format string, args ...any)

func say(format string, args ...any) {
	fmt.Fprintln(os.Stderr, advice.Printable(fmt.Sprintf(format, args...)))
}

// runFlags registers the flags that create and run have in common. The command calls do with what they say. With --explain=sh it
// prints a script instead. failed is the exit status if gocker cannot do that.
func runFlags(e *engine.Engine, cmd *cobra.Command, failed int, do func(life.Life, describe.Options, sayer, story.Story) error) {
	var opts describe.Options
	var explained explainFlag
	var quiet bool
	f := cmd.Flags()
	f.SetInterspersed(false) // the flags behind IMAGE are the command's
	f.SetNormalizeFunc(oneName)
	f.Bool("help", false, "help for "+cmd.Name()) // without its usual -h, which is --hostname
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing when an image is pulled")
	explained.register(f)
	general := generalFlags(f, &opts)
	resourceFlags(f, &opts.Limits)
	mountFlags(f, &opts.Mounts)
	isolationFlags(f, &opts.Isolation)
	attributeFlags(f, &opts.Attributes)
	nameFlags(f, &opts.Names)
	network := networkFlags(f, &opts)
	health := healthFlags(f, &opts)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if opts.Image, err = pull.ParseReference(args[0]); err != nil {
			return exit{failed, err}
		}
		opts.Args = args[1:]
		if err := errors.Join(general(), network(), health()); err != nil {
			return exit{exitGocker, err}
		}
		if explained == "sh" {
			return rehearse(e, opts, cmd.OutOrStdout())
		}
		say := say
		if quiet {
			say = func(string, ...any) {}
		}
		return do(watched(e, quiet), opts, say, explained.tell())
	}
}

// oneName is for flags that docker has by two names.
func oneName(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "net":
		name = "network"
	case "dns-opt":
		name = "dns-option"
	case "net-alias":
		name = "network-alias"
	}
	return pflag.NormalizedName(name)
}

// generalFlags registers the flags that are of no other group. The function that it returns puts those into opts that are to be read
// first.
func generalFlags(f *pflag.FlagSet, opts *describe.Options) (finish func() error) {
	var entrypoint, restart, logDriver string
	var stopTimeout int
	var envFiles, labels, labelFiles, annotations, logOpts []string
	f.BoolVar(&opts.Remove, "rm", false, "remove the container at its end")
	f.BoolVar(&opts.RemoveImage, "rmi", false, "at the end also remove its image, unless another container uses it")
	f.BoolVarP(&opts.Interactive, "interactive", "i", false, "pass standard input to the command")
	f.BoolVarP(&opts.Terminal, "tty", "t", false, "give the command a terminal")
	f.StringVar(&opts.Name, "name", "", "`name` of the container (default: two random words)")
	f.BoolVar(&opts.Replace, "replace", false, "first remove the container that has the same name")
	f.StringVar(&opts.CIDFile, "cidfile", "", "write the container's id to this new `file`")
	f.StringVarP(&opts.Hostname, "hostname", "h", "", "host `name` in the container (default its id)")
	f.VarP((*list)(&opts.Env), "env", "e", "environment variable: `KEY=value`, or KEY for the host's value")
	f.Var((*list)(&envFiles), "env-file", "`file` with environment variables, one in each line")
	f.VarP((*labelList)(&labels), "label", "l", "label: `KEY=value`, or KEY")
	f.Var((*list)(&annotations), "annotation", "annotation for programs that read the container's config.json: `KEY=value`")
	f.Var((*list)(&labelFiles), "label-file", "`file` with labels, one in each line")
	f.StringVarP(&opts.Workdir, "workdir", "w", "", "working `folder`")
	f.StringVarP(&opts.User, "user", "u", "", "`user[:group]`: names from the image, or numbers")
	f.StringVar(&entrypoint, "entrypoint", "", "`command` instead of the image's entrypoint")
	f.StringVar(&opts.Pull, "pull", "missing", "`always|missing|never`: when to ask the registry for the image")
	f.StringVar(&opts.Platform, "platform", "", "`os/architecture` of the image (default this machine's)")
	f.StringVar(&opts.StopSignal, "stop-signal", "", "`signal` that asks it to end (default the image's, or SIGTERM)")
	f.IntVar(&stopTimeout, "stop-timeout", 10, "`seconds` from this signal until it is killed; -1: never")
	f.StringVar(&restart, "restart", "no", "`no|on-failure[:times]|always|unless-stopped`: whether to start it again when it ends, and by gocker system boot")
	f.StringVar(&logDriver, "log-driver", "json-file", "`json-file|local|journald|syslog|none`: whether a log keeps its output, and where else it goes")
	f.Var((*list)(&logOpts), "log-opt", "`max-size=10m`: size of a log file, -1 for no limit; max-file=3: number of files (default 20m and 5); labels=KEY,…, env=KEY,… and tag=TEMPLATE for logs --details")
	return func() error {
		if f.Changed("entrypoint") {
			opts.Entrypoint = &entrypoint
		}
		if f.Changed("stop-timeout") {
			opts.StopTimeout = &stopTimeout
		}
		fileEnv, envErr := readLines("env-file", envFiles, os.LookupEnv)
		opts.Env = append(fileEnv, fromHost(opts.Env)...)
		fileLabels, labelErr := readLines("label-file", labelFiles, nil)
		opts.Labels = byKey(append(fileLabels, labels...))
		opts.Annotations = byKey(annotations)
		var restartErr, logErr error
		opts.Restart, restartErr = describe.ParseRestart(restart)
		opts.Log, logErr = describe.ParseLog(logDriver, logOpts)
		return errors.Join(envErr, labelErr, restartErr, logErr)
	}
}

// readLines reads the files of --env-file and --label-file. empty has the value of a name that stands alone.
func readLines(flag string, files []string, empty func(string) (string, bool)) (all []string, err error) {
	for _, file := range files {
		lines, err := kvfile.Parse(file, empty)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		all = append(all, lines...)
	}
	return all, nil
}

// attachedStreams are those that the user has named, or all.
func attachedStreams(names []string) (life.Streams, error) {
	if len(names) == 0 {
		return standard, nil
	}
	var streams life.Streams
	for _, name := range names {
		switch strings.ToLower(name) {
		case "stdin":
			streams.Stdin = os.Stdin
		case "stdout":
			streams.Stdout = os.Stdout
		case "stderr":
			streams.Stderr = os.Stderr
		default:
			return streams, fmt.Errorf("--attach %q: there are stdin, stdout and stderr", name)
		}
	}
	return streams, nil
}

var standard = life.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}

// ended turns how a command ended into how this program ends: with failed if gocker could not run it.
func ended(status int, err error, failed int) error {
	if errors.Is(err, life.ErrLeft) { // or the prompt would stand behind what the container wrote last
		fmt.Fprintln(os.Stderr, "\n"+err.Error())
		return nil
	}
	if err != nil {
		return exit{failedStatus(err, failed), err}
	}
	if status != 0 {
		return exit{status, nil}
	}
	return nil
}

// fromHost gives a variable that is named without a value the host's, as docker does; one that is not set is left out.
func fromHost(env []string) []string {
	var out []string
	for _, variable := range env {
		if !strings.Contains(variable, "=") {
			value, ok := os.LookupEnv(variable)
			if !ok && variable != "" { // an empty word is a mistake: see CheckProcess
				continue
			}
			variable += "=" + value
		}
		out = append(out, variable)
	}
	return out
}
