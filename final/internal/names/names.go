// Package names says what containers and volumes may be called.
package names

import "strings"

// Rule tells a user what Valid means.
const Rule = "names have 2 to 255 letters, digits and _.-, and begin with a letter or digit"

// Valid tells whether docker allows a name, and it can be that of a file.
func Valid(name string) bool {
	const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return len(name) >= 2 && len(name) <= 255 && strings.IndexAny(name, alphanumeric) == 0 && strings.Trim(name, alphanumeric+"_.-") == ""
}
