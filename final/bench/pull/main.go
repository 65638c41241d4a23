//go:build linux

// Command pull measures how long an image takes from a registry into an empty store, beside what else does it:
//
//	apt-get install attr debootstrap docker-registry isal libcap2-bin podman skopeo strace umoci
//	final/bench/pull/image --large FOLDER
//	go run ./final/bench/pull [-n 10] [-memory=false] [-disk=false] [-gocker FILE] FOLDER
//
// FOLDER is the image, an OCI layout with the name latest. Debian's own registry serves it from memory, over loopback.
// These pull: gocker, once with igzip, once without, and once as an ordinary user, podman, and skopeo with umoci; the floor
// is curl for one layer after the other, through gzip -dc into tar -x, which checks nothing, deletes nothing and remembers
// nothing.
//
// In each round everybody has one turn, and who begins changes, so whatever else the machine does is done to all. The
// tables have medians, and the median of the rounds' ratios; the first table is of stores in memory, the second of
// stores on disk. CPU is that of the program and of all that it waited for, RSS that of the largest of these processes.
// After each table gocker's part is told once more by what its time goes into, from a profile of one pull.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"gocker/final/bench"
)

func main() {
	rounds := flag.Int("n", 10, "how often everybody has a turn")
	memory := flag.Bool("memory", true, "measure stores in memory")
	disk := flag.Bool("disk", true, "measure stores on disk, below TMPDIR")
	gocker := flag.String("gocker", "", "`file` of the gocker to measure (default: one built of these sources)")
	profiled := flag.String("profile", "", "") // what the program calls itself with
	flag.Parse()
	var err error
	switch {
	case *profiled != "":
		err = profilePull(*profiled)
	case flag.NArg() != 1:
		err = errors.New("want the folder of an image, made by final/bench/pull/image")
	default:
		err = run(*rounds, flag.Arg(0), *memory, *disk, *gocker)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pull:", err)
		os.Exit(1)
	}
}

func run(rounds int, layout string, inMemory, onDisk bool, gocker string) error {
	dir, err := os.MkdirTemp(cmp.Or(os.Getenv("TMPDIR"), "/var/tmp"), "gocker-pull-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := bench.OwnMounts(); err != nil { // they are gone with us, whatever becomes of us
		return err
	}
	user, err := bench.NewUser(dir)
	if err != nil {
		return err
	}
	memory := filepath.Join(dir, "memory")
	if err := errors.Join(os.Mkdir(memory, 0o755), unix.Mount("tmpfs", memory, "tmpfs", 0, "mode=755")); err != nil {
		return err
	}
	defer unix.Unmount(memory, unix.MNT_DETACH)
	program, err := bench.Gocker(dir, gocker)
	if err != nil {
		return err
	}
	registry, image, err := serve(filepath.Join(memory, "registry"), layout)
	if err != nil {
		return err
	}
	defer func() {
		registry.Process.Kill()
		registry.Wait()
	}()
	blobs, err := layerURLs(image)
	if err != nil {
		return err
	}
	for _, at := range []struct {
		where, dir string
		wanted     bool
	}{{"in memory", memory, inMemory}, {"on disk", dir, onDisk}} {
		if !at.wanted {
			continue
		}
		store := filepath.Join(at.dir, "store")
		if err := measure(at.where, rounds, store, contenders(program, image, blobs, store, user)); err != nil {
			return err
		}
		if err := breakdown(program, image, store); err != nil {
			return err
		}
	}
	return nil
}

// serve starts a registry in a folder, on a port of the kernel's choice, and gives it the image.
func serve(dir, layout string) (registry *exec.Cmd, image string, err error) {
	config := fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: '127.0.0.1:0'}\n", dir)
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+".yml", []byte(config), 0o644)); err != nil {
		return nil, "", err
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		return nil, "", err
	}
	defer log.Close()
	registry = exec.Command("docker-registry", "serve", dir+".yml")
	registry.Stdout, registry.Stderr = log, log
	registry.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := registry.Start(); err != nil {
		return nil, "", err
	}
	said := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
	for range 100 {
		raw, _ := os.ReadFile(dir + ".log")
		if found := said.FindSubmatch(raw); found != nil {
			image = fmt.Sprintf("%s/image:latest", found[1])
			return registry, image, bench.Do("skopeo", "copy", "-q", "--dest-tls-verify=false", "oci:"+layout+":latest", "docker://"+image)
		}
		time.Sleep(100 * time.Millisecond)
	}
	raw, _ := os.ReadFile(dir + ".log")
	return nil, "", fmt.Errorf("docker-registry does not come up: %s", raw)
}

// layerURLs are where the image's layers are fetched from.
func layerURLs(image string) (urls []string, err error) {
	host, repository, _ := strings.Cut(strings.TrimSuffix(image, ":latest"), "/")
	base := fmt.Sprintf("http://%s/v2/%s/", host, repository)
	request, err := http.NewRequest(http.MethodGet, base+"manifests/latest", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", string(types.OCIManifestSchema1))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	manifest, err := v1.ParseManifest(response.Body)
	if err != nil {
		return nil, err
	}
	for _, layer := range manifest.Layers {
		urls = append(urls, base+"blobs/"+layer.Digest.String())
	}
	return urls, nil
}

// A contender pulls the image into an empty store, which it is given, and which is removed before and after.
type contender struct {
	name string
	args []string
	env  []string
	as   *bench.User // nil: root
}

func contenders(gocker, image string, blobs []string, store string, user *bench.User) []contender {
	insecure := "docker://" + image
	var floor strings.Builder
	for i, url := range blobs {
		fmt.Fprintf(&floor, "mkdir %s/%d; curl -sS %s | gzip -dc | tar -x -C %[1]s/%[2]d\n", store, i, url)
	}
	root := "GOCKER_ROOT=" + store
	return []contender{
		{"gocker pull", []string{gocker, "pull", "-q", image}, []string{root}, nil},
		{"gocker pull, no igzip", []string{gocker, "pull", "-q", image}, []string{root, "PATH=/nowhere"}, nil},
		{"gocker pull, a user's", []string{gocker, "pull", "-q", image}, []string{root + "/user"}, user},
		{"podman pull", []string{"podman", "--root", store, "--runroot", store + "-run", "--storage-driver", "overlay",
			"pull", "-q", "--tls-verify=false", image}, nil, nil},
		{"skopeo, umoci", []string{"sh", "-ec", fmt.Sprintf("skopeo copy -q --src-tls-verify=false %s oci:%s/oci:latest\n"+
			"umoci raw unpack --image %[2]s/oci:latest %[2]s/rootfs", insecure, store)}, nil, nil},
		{"curl | gzip | tar", []string{"sh", "-ec", floor.String()}, nil, nil},
	}
}

// measure prints a table. The first contender is the one that the others are compared with.
func measure(where string, rounds int, store string, contenders []contender) error {
	type figures struct{ wall, cpu, rss []float64 }
	all := make([]figures, len(contenders))
	for round := range rounds + 1 {
		for turn := range contenders {
			i := (round + turn) % len(contenders)
			if err := empty(store); err != nil {
				return err
			}
			wall, cpu, rss, err := once(contenders[i])
			if err != nil {
				return err
			}
			if round > 0 { // the first only fills the caches
				all[i] = figures{append(all[i].wall, wall), append(all[i].cpu, cpu), append(all[i].rss, rss)}
			}
		}
	}
	fmt.Printf("%-22s  %8s  %8s  %9s  %s\n", fmt.Sprintf("%s, median of %d", where, rounds), "wall", "CPU", "RSS", "ours / theirs: wall, CPU")
	for i, c := range contenders {
		fmt.Printf("%-22s  %6.2f s  %6.2f s  %5.1f MiB  %.2f  %.2f\n", c.name, bench.Median(all[i].wall), bench.Median(all[i].cpu), bench.Median(all[i].rss),
			bench.MedianRatio(all[0].wall, all[i].wall), bench.MedianRatio(all[0].cpu, all[i].cpu))
	}
	return empty(store)
}

// empty leaves an empty folder, and nothing that is still to be written to the disk: the next one would wait for it.
func empty(store string) error {
	unix.Unmount(filepath.Join(store, "overlay"), unix.MNT_DETACH) // podman's own mount; it may be missing
	// The store is the user's, too.
	err := errors.Join(os.RemoveAll(store), os.RemoveAll(store+"-run"), os.Mkdir(store, 0o755), os.Chmod(store, 0o777))
	unix.Sync()
	return err
}

// once returns seconds, seconds and MiB.
func once(c contender) (wall, cpu, rss float64, err error) {
	cmd := bench.Contender{Args: c.args, As: c.as}.Command()
	cmd.Env = append(cmd.Environ(), c.env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	began := time.Now()
	err = cmd.Run()
	wall = time.Since(began).Seconds()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%s: %w: %s", c.name, err, said.Bytes())
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return wall, cpu, float64(usage.Maxrss) / 1024, nil
}
