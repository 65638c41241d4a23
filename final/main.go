//go:build linux

// Command gocker runs containers. Each capability is a step of this project, and final is where they meet.
package main

import (
	"fmt"
	"os"

	"gocker/final/internal/cli"
	"gocker/final/internal/doctor"
	_ "gocker/final/internal/enter/early" // an ordinary user's gocker becomes one in the user's namespaces
	"gocker/final/internal/igzip"
	"gocker/final/internal/life"
	_ "gocker/final/internal/readonly" // gocker cannot be written to from inside a container
	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/advice"
	"gocker/step02-untar/decompress"
)

func main() {
	deepen()

	// gocker starts itself once more, by another name, for what needs a process of its own. Each of these looks at that name:
	// it returns, or it is all that this process does.
	life.Monitor()      // has a container in the background, and starts it again
	life.WaitForExec()  // waits for one more command in a container, in the background
	life.KeepTerminal() // reads a terminal that its user has left
	doctor.Init()       // tries whether this machine lets others than root mount an overlay

	decompress.Gunzip = igzip.Gunzip                    // most of the time that a pull takes goes into gzip
	if err := rootless.Enter(os.Args[1:]); err != nil { // returns for root only, or with an error
		fmt.Fprint(os.Stderr, advice.Print("gocker", err))
		os.Exit(125)
	}
	os.Exit(cli.Main(os.Args[1:]))
}

// deepen makes this goroutine's stack large while it is empty. Go begins with a small one, and copies it to one of twice the size
// whenever it is full; each time it looks up all functions on it in tables that have to be read from the file.
//
//go:noinline
func deepen() byte {
	var room [48 << 10]byte
	return room[os.Getpid()%len(room)] // else the compiler would leave it out
}
