//go:build !linux

package main

import "gocker/step01-pull/lesson"

func main() { lesson.NeedsLinux("breakout") }
