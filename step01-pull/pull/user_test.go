//go:build linux

package pull

import (
	"os"
	"testing"

	"gocker/step01-pull/shared/testenv"
)

func TestMain(m *testing.M) {
	testenv.AsRootInside()
	os.Exit(m.Run())
}
