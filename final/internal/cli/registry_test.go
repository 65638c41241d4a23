//go:build linux

package cli_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

// gocker runs the program, and returns what it wrote, both streams, and whether it ended well.
func gocker(t testing.TB, d dirs.Dirs, args ...string) (output string, err error) {
	t.Helper()
	cmd := exec.Command("gocker", args...)
	cmd.Env = append(os.Environ(), "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	raw, err := cmd.CombinedOutput()
	return string(raw), err
}

// mustGocker is gocker for what has to end well.
func mustGocker(t testing.TB, d dirs.Dirs, args ...string) string {
	t.Helper()
	output, err := gocker(t, d, args...)
	if err != nil {
		t.Fatalf("gocker %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// debianRegistry starts Debian's registry with TLS, of an authority of its own, and a user guest, whose password is
// secret. It returns its host:port, and a folder with the authority's certificate.
func debianRegistry(t *testing.T) (address, certDir string) {
	t.Helper()
	testenv.Needs(t, "docker-registry")
	dir, certDir := t.TempDir(), t.TempDir()
	cert, key := certificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close() // docker-registry does not say which free port it has taken
	for name, content := range map[string]string{
		dir + "/cert.pem":     cert,
		dir + "/key.pem":      key,
		certDir + "/ca.crt":   cert,
		dir + "/htpasswd":     "guest:$2a$04$vWcNL6VK1Kq1MpXehVRThOBiPhgihvVTrWP1BeMOQqu/5OhQcPr2.\n", // bcrypt of "secret"
		dir + "/registry.yml": fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %[1]s/data}}\nauth: {htpasswd: {realm: test, path: %[1]s/htpasswd}}\nhttp: {addr: %[2]q, tls: {certificate: %[1]s/cert.pem, key: %[1]s/key.pem}}\n", dir, address),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	cmd := exec.Command("docker-registry", "serve", dir+"/registry.yml")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("docker-registry: %s", log.String())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return address, certDir
		}
		if time.Now().After(deadline) {
			t.Fatalf("docker-registry does not answer: %v", err)
		}
	}
}

// certificate makes one for 127.0.0.1 that vouches for itself.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: rawKey}))
}

func TestARegistryWithCertificateAndPassword(t *testing.T) {
	testenv.NeedRoot(t)
	address, certDir := debianRegistry(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	d := emptyDirs(t)
	refused := func(says string, args ...string) {
		t.Helper()
		if output, err := gocker(t, d, args...); err == nil || !strings.Contains(output, says) {
			t.Errorf("gocker %s: %v, want it to fail and say %q:\n%s", strings.Join(args, " "), err, says, output)
		}
	}
	login := func(password string, flags ...string) (string, error) {
		cmd := exec.Command("gocker", append([]string{"login", "-u", "guest", "--password-stdin", address}, flags...)...)
		cmd.Stdin = strings.NewReader(password + "\n")
		output, err := cmd.CombinedOutput()
		return string(output), err
	}

	for _, args := range [][]string{{"login", address}, {"login", "--password-stdin", address}, {"login", "-u", "guest", "-p", "x", "--password-stdin", address}} {
		var exit *exec.ExitError
		if output, err := gocker(t, d, args...); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("gocker %s without a terminal: %v, want status 1:\n%s", strings.Join(args, " "), err, output)
		}
	}
	if output, err := login("secret"); err == nil || !strings.Contains(output, "certificate signed by unknown authority") {
		t.Errorf("login without the authority's certificate: %v\n%s", err, output)
	}
	if output, err := login("wrong", "--cert-dir", certDir); err == nil || !strings.Contains(output, "check user and password") {
		t.Errorf("login with a wrong password: %v\n%s", err, output)
	}
	refused("credentials", "pull", "--cert-dir", certDir, address+"/image")
	if output, err := login("secret", "--cert-dir", certDir); err != nil || !strings.Contains(output, "Login Succeeded") {
		t.Fatalf("login: %v\n%s", err, output)
	}
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")), testenv.Tar(t, testenv.File("b", "2")))
	if err := crane.Push(img, address+"/image", crane.Insecure); err != nil {
		t.Fatal(err)
	}
	refused("unknown authority", "pull", address+"/image")
	mustGocker(t, d, "pull", "--cert-dir", certDir, address+"/image")
	mustGocker(t, d, "pull", "--insecure", address+"/image")
	refused("no such image", "pull", "--cert-dir", certDir, address+"/other")
	mustGocker(t, d, "logout", address)
	refused("credentials", "pull", "--cert-dir", certDir, address+"/image")
}

// A slowRegistry counts the bytes of layers that it sends, and sends only the first of them until it is told to go on.
type slowRegistry struct {
	address string

	mu       sync.Mutex
	most     int64 // bytes of one answer; -1: all
	sent     int64
	requests int
	reached  chan struct{} // closed when the most was sent
}

func newSlowRegistry(t *testing.T) *slowRegistry {
	s := &slowRegistry{most: -1, reached: make(chan struct{})}
	s.address = testenv.Registry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.requests++
			s.mu.Unlock()
			h.ServeHTTP(&slowWriter{ResponseWriter: w, s: s, layer: strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet, gone: r.Context().Done()}, r)
		})
	})
	return s
}

// since returns what was sent and asked since the last call.
func (s *slowRegistry) since() (sent int64, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, requests = s.sent, s.requests
	s.sent, s.requests = 0, 0
	return sent, requests
}

type slowWriter struct {
	http.ResponseWriter
	s     *slowRegistry
	layer bool
	mine  int64
	gone  <-chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if !w.layer {
		return w.ResponseWriter.Write(p)
	}
	w.s.mu.Lock()
	most := w.s.most
	w.s.mu.Unlock()
	whole := len(p)
	if most >= 0 {
		p = p[:max(0, min(int64(len(p)), most-w.mine))]
	}
	n, err := w.ResponseWriter.Write(p)
	w.mine += int64(n)
	w.s.mu.Lock()
	w.s.sent += int64(n)
	w.s.mu.Unlock()
	if n < whole && err == nil {
		w.ResponseWriter.(http.Flusher).Flush()
		close(w.s.reached)
		<-w.gone
		return n, io.ErrClosedPipe
	}
	return n, err
}

func noise(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return string(b)
}

func TestAKilledPullGoesOnInAnotherProcess(t *testing.T) {
	testenv.NeedRoot(t)
	const size = 32 << 20
	s := newSlowRegistry(t)
	testenv.Push(t, testenv.Image(t, testenv.Tar(t, testenv.File("big", noise(size)))), s.address+"/image")
	s.most = size * 9 / 10
	d := emptyDirs(t)
	first := exec.Command("gocker", "pull", s.address+"/image")
	first.Env = append(os.Environ(), "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	<-s.reached
	// What was sent is on its way: wait until the file has it.
	for have := int64(0); have < s.most; time.Sleep(5 * time.Millisecond) {
		files, err := filepath.Glob(d.AllTmp() + "/*/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if info, err := os.Stat(file); err == nil {
				have = info.Size()
			}
		}
	}
	first.Process.Kill()
	first.Wait()
	if _, err := os.Stat(d.ImagesJSON()); err == nil {
		t.Error("the killed pull has entered an image")
	}
	s.mu.Lock()
	s.most = -1
	s.mu.Unlock()
	s.since()
	mustGocker(t, d, "pull", s.address+"/image")
	if sent, _ := s.since(); sent > size*12/100 {
		t.Errorf("the second pull fetched %d of %d bytes, want at most 12 %%", sent, size)
	}
	if left := testenv.Ls(t, d.AllTmp()); len(left) > 0 {
		t.Errorf("tmp has %q", left)
	}
}

func TestWhatIsHereIsNotAskedFor(t *testing.T) {
	testenv.NeedRoot(t)
	s := newSlowRegistry(t)
	base := testenv.Tar(t, testenv.File("base", noise(1<<20)))
	push := func(name string, layers ...[]byte) {
		testenv.Push(t, testenv.Image(t, layers...), s.address+"/"+name)
	}
	push("one", base)
	push("two", base, testenv.Tar(t, testenv.File("b", "2")))
	push("three", testenv.Tar(t, testenv.File("c", "3")), base) // the same layer on top of another: another folder
	d := emptyDirs(t)
	for _, tt := range []struct {
		image       string
		least, most int64 // bytes of blobs
		requests    int
	}{
		{"one", 1 << 20, 2 << 20, 3}, // manifest, config, layer
		{"one", 0, 0, 1},             // is it still the same?
		{"two", 0, 4 << 10, 3},
		{"three", 0, 4 << 10, 3},
	} {
		s.since()
		output := mustGocker(t, d, "pull", s.address+"/"+tt.image)
		if sent, requests := s.since(); sent < tt.least || sent > tt.most || requests != tt.requests {
			t.Errorf("pull %s: %d bytes of blobs in %d requests, want %d to %d in %d:\n%s", tt.image, sent, requests, tt.least, tt.most, tt.requests, output)
		}
	}
}

func TestRunShowsWhatAPullShows(t *testing.T) {
	testenv.NeedRoot(t)
	address := testenv.Registry(t, nil)
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	testenv.Push(t, img, address+"/app")
	d := emptyDirs(t)
	output := mustGocker(t, d, "create", "--name", "app", address+"/app", "/a")
	testenv.InOrder(t, output, "Unable to find image "+address+"/app:latest here", "latest: Pulling from "+address+"/app", ": Pull complete", "Digest: "+digestOf(t, img), "Status: Downloaded newer image")
	mustGocker(t, d, "rm", "app")
	d = emptyDirs(t)
	if output := mustGocker(t, d, "create", "--name", "app", "--quiet", address+"/app", "/a"); len(output) > 65 {
		t.Errorf("create --quiet wrote %q, want only the id", output)
	}
	mustGocker(t, d, "rm", "app")
}

func TestALayerWithAWrongByteLeavesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	content := testenv.Tar(t, testenv.File("big", noise(1<<20)))
	layer := static.NewLayer(content, types.OCIUncompressedLayer)
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(content)
	wrong[600_000] ^= 1
	lie := true
	address := testenv.Registry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if lie && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, digest.String()) {
				w.Write(wrong)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	img, err := mutate.AppendLayers(testenv.Image(t), layer)
	if err != nil {
		t.Fatal(err)
	}
	testenv.Push(t, img, address+"/image")
	d := emptyDirs(t)
	output, err := gocker(t, d, "pull", address+"/image")
	if err == nil || !strings.Contains(output, "does not match its digest") {
		t.Errorf("gocker pull: %v\n%s", err, output)
	}
	for _, folder := range []string{d.AllTmp(), d.Layers(), d.Images()} {
		if left := testenv.Ls(t, folder); len(left) > 0 {
			t.Errorf("%s has %q", folder, left)
		}
	}

	// The same byte in what a killed pull has left: it is noticed, and that layer is fetched once more.
	lie = false
	left := d.Tmp(testenv.ID(t, img))
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, digest.Hex), wrong[:700_000], 0o600); err != nil {
		t.Fatal(err)
	}
	mustGocker(t, d, "pull", address+"/image")
}

func TestLayersThatRegistriesMayNotHave(t *testing.T) {
	testenv.NeedRoot(t)
	content := testenv.Tar(t, testenv.File("a", "1"))
	maker := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(content) })}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go maker.Serve(listener)
	t.Cleanup(func() { maker.Close() })
	address := testenv.Registry(t, nil)
	foreign := static.NewLayer(content, types.DockerForeignLayer)
	img, err := mutate.Append(testenv.Image(t), mutate.Addendum{
		Layer: foreign, MediaType: types.DockerForeignLayer, URLs: []string{"http://" + listener.Addr().String() + "/layer"},
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Push(t, img, address+"/image") // which leaves out such layers
	mustGocker(t, emptyDirs(t), "pull", address+"/image")
}

func TestAnImageMayHaveHundredsOfLayers(t *testing.T) {
	testenv.NeedRoot(t)
	// 100 are more than a page of mount options already; more are slower with the square of their number.
	count := 400
	if testing.Short() {
		count = 100
	}
	base, _, err := sample.Image()
	if err != nil {
		t.Fatal(err)
	}
	var more []v1.Layer
	for i := range count - 4 { // which the sample has
		more = append(more, static.NewLayer(testenv.Tar(t, testenv.File(fmt.Sprint("only-", i), ""), testenv.File("last", fmt.Sprint(i))), types.DockerUncompressedLayer))
	}
	img, err := mutate.AppendLayers(base, more...)
	if err != nil {
		t.Fatal(err)
	}
	address := testenv.Registry(t, nil)
	testenv.Push(t, img, address+"/image")
	d := emptyDirs(t)
	mustGocker(t, d, "pull", "-q", address+"/image")
	if got := mustGocker(t, d, "run", "--rm", address+"/image", "sh", "-c", "cat /last; ls /only-* | wc -l"); got != fmt.Sprintf("%d%d\n", count-5, count-4) {
		t.Errorf("run printed %q, want what the last of %d layers has in /last, and a file of each", got, count-4)
	}
	if got := mustGocker(t, d, "system", "check"); !strings.Contains(got, fmt.Sprintf("1 images and %d layers are as they should be", count)) {
		t.Errorf("gocker system check: %s", got)
	}
}
