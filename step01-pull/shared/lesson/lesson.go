// Package lesson is what the main.go of every step begins with: the flags that all steps share, Ctrl-C, the exit status.
package lesson

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// Exit is the error of a lesson that ran well and whose container's command ended with this exit status.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// A Run is a lesson.
type Run = func(ctx context.Context, stdin io.Reader, stdout io.Writer, args []string) error

// Main runs a lesson and exits with its status: 0, that of the container's command, or 1 with an error on stderr.
// Ctrl-C cancels the context: the lesson ends by returning, so all that it would clean up is cleaned up. So does a "| head"
// that reads no more.
func Main(name string, run Run) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	err := run(ctx, os.Stdin, os.Stdout, os.Args[1:])
	var exit Exit
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.As(err, &exit):
		os.Exit(int(exit))
	default:
		fmt.Fprint(os.Stderr, advice.Print(name, err))
		os.Exit(1)
	}
}

// Flags are the flags that all steps share; synopsis is the command line ("step01-pull [flags] [IMAGE]"), about says
// what the lesson shows. Parsing stops at the first word that is no flag, so that the flags of a container's command
// stay with the command.
func Flags(stdout io.Writer, d *dirs.Dirs, synopsis, about string) *flag.FlagSet {
	*d = dirs.Default()
	flags := flag.NewFlagSet(synopsis, flag.ContinueOnError)
	flags.StringVar(&d.Root, "root", d.Root, "`folder` of images and layers (GOCKER_ROOT)")
	flags.StringVar(&d.Run, "run", d.Run, "`folder` of containers (GOCKER_RUN)")
	flags.SetOutput(stdout)
	flags.Usage = func() {
		fmt.Fprintf(stdout, "%s\n\nusage: go run ./%s\n\n", about, synopsis)
		flags.PrintDefaults()
	}
	return flags
}

// Parse parses a step's arguments and returns the image that the lesson is about: the first word that is no flag, else
// the sample image.
func Parse(flags *flag.FlagSet, args []string) (pull.Reference, error) {
	if err := flags.Parse(args); err != nil {
		return pull.Reference{}, err
	}
	return pull.ParseReference(cmp.Or(flags.Arg(0), pull.Sample))
}

// Command is what the container is to run: what stands behind the image, else a shell.
func Command(flags *flag.FlagSet) []string {
	if flags.NArg() > 1 {
		return flags.Args()[1:]
	}
	return []string{"/bin/sh"}
}

// Say returns a function that writes a line to stdout, for the libraries that have something to tell.
func Say(stdout io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) { fmt.Fprintf(stdout, format+"\n", args...) }
}

// Enter waits until the user presses Enter or Ctrl-C.
func Enter(ctx context.Context, terminal *os.File) {
	pressed := make(chan struct{})
	go func() {
		bufio.NewReader(terminal).ReadString('\n')
		close(pressed)
	}()
	select {
	case <-pressed:
	case <-ctx.Done():
	}
}

// NeedsLinux is how the steps from the third on end everywhere else.
func NeedsLinux(name string) {
	fmt.Fprintf(os.Stderr, "%s: containers are made of Linux kernel features, and this is %s: run it on Linux or in a Linux virtual machine; step01-pull and step02-untar work here.\n", name, runtime.GOOS)
	os.Exit(1)
}
