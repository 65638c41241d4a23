// Package names says what containers and volumes may be called.
package names

import "strings"

// Rule tells a user what Valid means.
const Rule = "names have at least two letters, digits and _.-, and begin with a letter or digit"

// Valid tells whether docker allows a name.
func Valid(name string) bool {
	const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return len(name) >= 2 && strings.IndexAny(name, alphanumeric) == 0 && strings.Trim(name, alphanumeric+"_.-") == ""
}
