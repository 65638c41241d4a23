//go:build linux

package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"gocker/final/internal/cli"
	"gocker/final/internal/doctor"
	"gocker/final/internal/engine"
	"gocker/final/internal/life"
	"gocker/final/internal/networks"
	"gocker/final/internal/rootless"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/road"
	"gocker/step06-cgroups/trees"
)

func TestMain(m *testing.M) {
	doctor.Init()
	life.Monitor()
	life.WaitForExec()
	life.KeepTerminal()
	if filepath.Base(os.Args[0]) != "gocker" {
		testenv.Alone()
	}
	testenv.DefaultSignals()
	testscript.Main(m, map[string]func(){"gocker": func() {
		if err := rootless.Enter(os.Args[1:]); err != nil { // for root it does nothing
			fmt.Fprint(os.Stderr, advice.Print("gocker", err))
			os.Exit(125)
		}
		os.Exit(cli.Main(os.Args[1:]))
	}})
}

// programs are files that every script finds in its folder.
var programs = map[string][]byte{}

// The scripts in testdata/script are what a person types. In each, gocker is this very code, $REGISTRY has the images
// that serveImages makes, and the image sample is here already. At the end nothing may be left.
//
//	status N COMMAND…   the command ends with exit status N
//	folder-xattr PATTERN NAME [VALUE]   the folder of such a file has this extended attribute, or has it no more
//	until COMMAND…      it is tried until it succeeds, for a minute
//	needs PROGRAM…      the script is skipped where the host lacks one of them; in CI that fails
//	own-root            this script wants folders of its own, and nothing in them
func TestScripts(t *testing.T) {
	testenv.NeedRoot(t)
	shared := emptyDirs(t)
	ref, err := pull.ParseReference(pull.Sample)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := road.Pull(context.Background(), shared, ref); err != nil {
		t.Fatal(err)
	}
	params := scripts(shared, serveImages(t))
	params.Dir = "testdata/script"
	testscript.Run(t, params)
}

// scripts are the parameters of all scripts.
func scripts(shared dirs.Dirs, address string) testscript.Params {
	return testscript.Params{
		Setup: func(env *testscript.Env) error {
			tb := env.T().(testing.TB)
			env.Values["t"] = tb
			env.Setenv("REGISTRY", address)
			// Each script has its own containers, and all share the images.
			d := dirs.Dirs{Root: shared.Root, Run: filepath.Join(env.WorkDir, "run")}
			env.Setenv("GOCKER_ROOT", d.Root)
			env.Setenv("GOCKER_RUN", d.Run)
			for name, program := range programs {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), program, 0o755); err != nil {
					return err
				}
			}
			nothingLeft := testenv.Watch(tb, dirs.Dirs{Root: filepath.Join(env.WorkDir, "root"), Run: d.Run})
			env.Defer(func() {
				if tb.Failed() { // halfway, and its detached containers still run
					e := engine.Engine{Dirs: d}
					states, _ := e.Containers().List()
					for _, s := range states {
						e.Life().Remove(s.ID, life.RmOptions{Force: true, Volumes: true})
					}
				}
				// Of the default network; a script with its own root has it there.
				for _, root := range []string{d.Root, filepath.Join(env.WorkDir, "root")} {
					if os.Geteuid() != 0 { // a user's are gone with the holder of the namespaces
						break
					}
					if err := (networks.Store{Dirs: dirs.Dirs{Root: root, Run: d.Run}}).Rest(); err != nil {
						tb.Error(err)
					}
				}
				nothingLeft(tb)
			})
			return nil
		},
		Condition: func(cond string) (bool, error) { // [cgroup-v1], [cgroup-v2], [cgroup-hybrid], [user] for one who is not root
			if cond == "user" {
				return os.Geteuid() != 0, nil
			}
			mounted, err := trees.Find()
			mode, _ := mounted.Mode()
			return cond == "cgroup-"+mode, err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				status := 0
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					status = exit.ExitCode()
				} else if err != nil {
					ts.Fatalf("%v", err)
				}
				if fmt.Sprint(status) != args[0] {
					ts.Fatalf("%s ended with %d, want %s", strings.Join(args[1:], " "), status, args[0])
				}
			},
			"needs": func(ts *testscript.TestScript, _ bool, args []string) {
				testenv.Needs(ts.Value("t").(testing.TB), args...)
			},
			"folder-xattr": func(ts *testscript.TestScript, _ bool, args []string) {
				files, err := filepath.Glob(ts.MkAbs(args[0]))
				if err == nil && len(files) == 0 {
					err = fs.ErrNotExist
				}
				for _, file := range files {
					if folder := filepath.Dir(file); len(args) == 2 {
						err = errors.Join(err, unix.Removexattr(folder, args[1]))
					} else {
						err = errors.Join(err, unix.Setxattr(folder, args[1], []byte(args[2]), 0))
					}
				}
				ts.Check(err)
			},
			"until": func(ts *testscript.TestScript, _ bool, args []string) {
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
					err := ts.Exec(args[0], args[1:]...)
					if err == nil {
						return
					}
					if time.Now().After(deadline) {
						ts.Fatalf("%s did not succeed within a minute: %v", strings.Join(args, " "), err)
					}
				}
			},
			"own-root": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("GOCKER_ROOT", ts.MkAbs("root"))
			},
		},
	}
}

// serveImages starts a registry with images that are the sample image, with another config or one more layer.
func serveImages(t *testing.T) (address string) {
	address = testenv.Registry(t, nil)
	base, _, err := sample.Image()
	if err != nil {
		t.Fatal(err)
	}
	config, err := base.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	env := config.Config.Env
	for name, c := range map[string]v1.Config{
		"plain":      {Env: env},
		"configured": {Env: append(env, "FROM=image", "BOTH=image"), Entrypoint: []string{"echo", "entry"}, Cmd: []string{"cmd"}, WorkingDir: "/srv", User: "guest"},
		"volumes":    {Env: env, Volumes: map[string]struct{}{"/etc": {}, "/srv": {}}},
		"nobody":     {Env: env, User: "no-such-user", Cmd: []string{"true"}},
	} {
		img, err := mutate.Config(base, c)
		if err != nil {
			t.Fatal(err)
		}
		testenv.Push(t, img, address+"/"+name)
	}
	// A link that a careless runtime would follow on the host.
	link := static.NewLayer(testenv.Tar(t, testenv.Symlink("link", "/etc")), types.OCIUncompressedLayer)
	linked, err := mutate.AppendLayers(base, link)
	if err != nil {
		t.Fatal(err)
	}
	testenv.Push(t, linked, address+"/linked")
	return address
}
