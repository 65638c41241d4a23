// Package names says what containers and volumes may be called.
package names

import "regexp"

// Rule tells a user what Valid means.
const Rule = "names have at least two letters, digits and _.-, and begin with a letter or digit"

// Valid tells whether docker allows a name.
func Valid(name string) bool { return chars.MatchString(name) }

var chars = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
