//go:build linux

package registry

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// A challenge is one way in that a registry offers: see RFC 9110, section 11.6.1.
type challenge struct {
	scheme string            // in lower case
	params map[string]string // their names in lower case
}

// word is a scheme, or a parameter with its value, which may be quoted.
var word = regexp.MustCompile("([-!#$%&'*+.^_`|~0-9A-Za-z]+)" + `(\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?`)

var escaped = regexp.MustCompile(`\\(.)`)

// challenges reads what the answer 401 asks for: in several headers, in one header with commas, or both. Those that ask
// for a token come first.
func challenges(header http.Header) (all []challenge) {
	for _, line := range header.Values("WWW-Authenticate") {
		var last map[string]string
		for _, m := range word.FindAllStringSubmatch(line, -1) {
			if m[2] == "" {
				last = map[string]string{}
				all = append(all, challenge{strings.ToLower(m[1]), last})
			} else if last != nil {
				last[strings.ToLower(m[1])] = escaped.ReplaceAllString(m[3], "$1") + m[4]
			}
		}
	}
	slices.SortStableFunc(all, func(a, b challenge) int { return strings.Compare(b.scheme, a.scheme) }) // bearer, basic
	return all
}
