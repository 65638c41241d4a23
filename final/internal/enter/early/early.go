//go:build linux

// Package early has a program that imports it go into its user's namespaces before main begins: see package enter.
package early

import "gocker/final/internal/enter"

func init() { enter.Early() }
