package sample

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"
)

// Serve starts a registry on a free port of the loopback interface, pushes the sample image to it as "sample:latest",
// and returns its address, "127.0.0.1:41789". The registry ends when ctx is done.
func Serve(ctx context.Context) (address string, err error) {
	img, _, err := Image()
	if err != nil {
		return "", fmt.Errorf("make the sample image: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("serve the sample image: %w", err)
	}
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	go server.Serve(listener)
	context.AfterFunc(ctx, func() { server.Close() })

	address = listener.Addr().String()
	if err := crane.Push(img, address+"/sample", crane.WithContext(ctx)); err != nil {
		server.Close()
		return "", fmt.Errorf("push the sample image to %s: %w", address, err)
	}
	return address, nil
}
