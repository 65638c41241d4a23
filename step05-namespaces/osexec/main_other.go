//go:build !linux

package main

import "gocker/step01-pull/shared/lesson"

func main() { lesson.NeedsLinux("osexec") }
