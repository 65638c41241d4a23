package pull_test

import (
	"context"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/crane"

	"gocker/step01-pull/sample"
)

func Example() {
	registry, err := sample.Serve(context.Background()) // "127.0.0.1:41789": a registry that needs no network
	if err != nil {
		panic(err)
	}
	img, err := crane.Pull(registry + "/sample")
	if err != nil {
		panic(err)
	}
	defer os.Remove("package.tar")
	if err := crane.SaveLegacy(img, registry+"/sample", "package.tar"); err != nil {
		panic(err)
	}
	fmt.Println("package.tar is there")
	// Output: package.tar is there
}
