//go:build linux

package hostile

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The page's rows: | **case** | the attack | the result |
var row = regexp.MustCompile(`(?m)^\| \*\*(.*?)\*\* \| (.*) \| (.*) \|$`)

func TestEveryAttackHasItsStoryAndEveryStoryItsAttack(t *testing.T) {
	page, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		outcomes[m[1]] = m[3]
	}
	for _, a := range slices.Concat(archives(), manifests(), loads(), runs(), lives()) {
		outcome, ok := outcomes[a.name]
		delete(outcomes, a.name)
		refused := strings.HasPrefix(outcome, "refused: ")
		switch {
		case !ok:
			t.Errorf("docs/security.md does not tell of %q", a.name)
		case a.refused != "" && outcome != "refused: `"+a.refused+"`":
			t.Errorf("docs/security.md says of %q: %s; the test says: refused: `%s`", a.name, outcome, a.refused)
		case a.refused == "" && refused, a.status != 0 && !strings.HasPrefix(outcome, fmt.Sprintf("ends with %d", a.status)):
			t.Errorf("docs/security.md says of %q: %s; the test says that it is pulled, and ends with %d", a.name, outcome, a.status)
		}
	}
	for name := range outcomes {
		t.Errorf("docs/security.md tells of %q, and no test tries it", name)
	}
}
