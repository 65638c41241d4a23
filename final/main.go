//go:build linux

// Command gocker runs containers. Each capability is a step of this project, and final is where they meet.
package main

import (
	"os"

	"gocker/final/internal/cli"
	"gocker/final/internal/doctor"
	"gocker/final/internal/igzip"
	"gocker/final/internal/life"
	_ "gocker/final/internal/readonly" // gocker cannot be written to from inside a container
	"gocker/step02-untar/untar"
)

func main() {
	doctor.Init()
	untar.Gunzip = igzip.Gunzip // most of the time that a pull takes goes into gzip
	life.Monitor()
	os.Exit(cli.Main(os.Args[1:]))
}
