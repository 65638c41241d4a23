//go:build linux

package cli_test

import (
	"fmt"
	"testing"

	"gocker/step01-pull/shared/testenv"
)

// BenchmarkImages lists a thousand images of two layers: a process from its start to its end.
func BenchmarkImages(b *testing.B) {
	testenv.NeedRoot(b)
	address, d := testenv.Registry(b, nil), testenv.Dirs(b)
	base := testenv.Tar(b, testenv.Dir("d"), testenv.File("d/base", "all have it"))
	pull := []string{"pull", "-q"}
	for i := range 1000 {
		name := fmt.Sprintf("%s/image-%d", address, i)
		testenv.Push(b, testenv.Image(b, base, testenv.Tar(b, testenv.File("own", fmt.Sprint(i)))), name)
		pull = append(pull, name)
	}
	mustGocker(b, d, pull...)
	for b.Loop() {
		mustGocker(b, d, "images")
	}
}
