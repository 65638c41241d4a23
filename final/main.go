//go:build linux

// Command gocker runs containers. Each capability is a step of this project, and final is where they meet.
package main

import (
	"os"

	"gocker/final/internal/cli"
	"gocker/final/internal/doctor"
	"gocker/final/internal/life"
	_ "gocker/final/internal/readonly" // gocker cannot be written to from inside a container
)

func main() {
	doctor.Init()
	life.Monitor()
	os.Exit(cli.Main(os.Args[1:]))
}
