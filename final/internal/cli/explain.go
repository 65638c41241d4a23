//go:build linux

package cli

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/pflag"

	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/explain"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/story"
)

// explainFlag is the flag --explain: empty, "true" or "sh".
type explainFlag string

func (e *explainFlag) String() string { return string(*e) }
func (e *explainFlag) Type() string   { return "bool" } // so that help shows no value

func (e *explainFlag) Set(s string) error {
	if s != "true" && s != "sh" {
		return errors.New("there are --explain and --explain=sh")
	}
	*e = explainFlag(s)
	return nil
}

func (e *explainFlag) register(f *pflag.FlagSet) {
	f.Var(e, "explain", "tell what gocker asks of the kernel, and the commands that do it by hand; --explain=sh only prints these commands, as a script")
	f.Lookup("explain").NoOptDefVal = "true"
}

// tell is the story for stderr, if one is wanted.
func (e explainFlag) tell() story.Story {
	if e == "" {
		return nil
	}
	return story.Print(os.Stderr)
}

// rehearse writes the script of a container.
func rehearse(e *engine.Engine, opts describe.Options, out io.Writer) error {
	script := explain.Script{Enter: usernamespace.ByHand()}
	err := e.Life().Rehearse(opts, say, script.Tell)
	if err == nil {
		_, err = script.WriteTo(out)
	}
	if err != nil {
		return exit{failedStatus(err, exitGocker), err}
	}
	return nil
}
