// Package dirs holds the names of everything that gocker keeps on disk, and the locks on them.
//
//	{root}/tmp/{image}/package.tar                 a pulled image; removed once its layers are unpacked
//	{root}/tmp/{image}/reference                   the name it was pulled by
//	{root}/images/images.json                      {"alpine": {"latest": "{image}"}, …}
//	{root}/images/{image}/manifest.json            the list of the image's layers, as package.tar had it
//	{root}/images/{image}/{config hash}.json       the image's config
//	{root}/images/{image}/{layer}                  a link to ../../layers/{chainID}
//	{root}/layers/{chainID}/fs                     one layer's files, shared by all images that have it
//	{root}/volumes/{name}/_data                    what containers keep beyond their end (final)
//	{root}/containers/{id}                         a container that lasts, with a link to it in {run}/containers (final)
//	{run}/containers/{id}/fs/{mnt,upperdir,workdir}
//
// {image} is the first 12 hex digits of the config's digest, {layer} the first 12 of the layer's name in
// manifest.json. Twelve digits are for people: code compares whole digests.
package dirs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"gocker/step01-pull/shared/folders"
)

// Dirs are the two folders below which gocker keeps everything.
type Dirs struct {
	Root string // images and layers: must survive a reboot
	Run  string // locks and links: what does not survive one
}

// Default is where this user's gocker keeps its files: see package folders.
func Default() Dirs {
	root, run := folders.Default(home())
	return Dirs{Root: root, Run: run}
}

// home is the user's home. Not everybody who starts a program says it in HOME: cron and systemd may not.
func home() string {
	if home := os.Getenv("HOME"); home != "" {
		return home
	}
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		return u.HomeDir
	}
	return "/"
}

// Short is the name that people use for a digest: its first 12 hex digits.
func Short(hex string) string { return hex[:min(12, len(hex))] }

// IsImage tells whether s has the shape of an {image}: 12 hex digits.
func IsImage(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789abcdef") == "" }

// Glob lists the files below folder whose names match pattern, which is relative to it; a folder that is not there has
// none. Unlike filepath.Glob it takes the folder's own name as it is: a user's may have a [ or a \ in it. And a folder
// that cannot be read is an error: a caller that removes all but the files of a list must know that the list is whole.
func Glob(folder, pattern string) ([]string, error) {
	isAbsent := func(err error, dir string) bool {
		return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) && dir != folder
	}
	found := []string{folder}
	for part := range strings.SplitSeq(pattern, "/") {
		var below []string
		for _, dir := range found {
			if !strings.ContainsAny(part, `*?[\`) { // the folder may be large
				name := filepath.Join(dir, part)
				switch _, err := os.Lstat(name); {
				case err == nil:
					below = append(below, name)
				case !isAbsent(err, dir):
					return nil, err
				}
				continue
			}
			entries, err := os.ReadDir(dir)
			if isAbsent(err, dir) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, entry := range entries {
				matches, err := path.Match(part, entry.Name())
				if err != nil {
					return nil, err
				}
				if matches {
					below = append(below, filepath.Join(dir, entry.Name()))
				}
			}
		}
		found = below
	}
	return found, nil
}

// Links are the symbolic links that Glob finds, and where each leads.
func Links(folder, pattern string) (map[string]string, error) {
	names, err := Glob(folder, pattern)
	links := map[string]string{}
	for _, name := range names {
		target, err := os.Readlink(name)
		switch {
		case err == nil:
			links[name] = target
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.EINVAL): // removed a moment ago, or no link
		default:
			return nil, err
		}
	}
	return links, err
}

// ErrDamaged says that a file was read, and is not what it should be.
var ErrDamaged = errors.New("damaged")

// ReadJSON reads a file. An error is os.ErrNotExist, ErrDamaged, or of a read that failed and says nothing of the file.
func ReadJSON(file string, to any) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := ParseJSON(raw, to); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// ParseJSON is json.Unmarshal. Its error says what is wrong with the text, and not which type of Go's it does not fit.
func ParseJSON(raw []byte, to any) error {
	err := json.Unmarshal(raw, to)
	var misfit *json.UnmarshalTypeError
	if errors.As(err, &misfit) && misfit.Field == "" {
		return fmt.Errorf("it is JSON of another kind: %s", misfit.Value)
	}
	if errors.As(err, &misfit) {
		return fmt.Errorf("%q cannot be of this kind: %s", misfit.Field, misfit.Value)
	}
	return err
}

// Lost tells whether a file is gone or damaged, by an error of ReadJSON. One that could not be read may be whole.
func Lost(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrDamaged) }

// Below tells where a file is below folder, by whatever name it is called: the same folder may have several, by links and
// by mounts. A file that is not there is where its name says.
func Below(folder, file string) (rel string, below bool, err error) {
	if folder, err = filepath.Abs(folder); err != nil {
		return "", false, err
	}
	if rel, below = strings.CutPrefix(file, folder+"/"); below {
		return rel, true, nil
	}
	want, err := os.Stat(folder)
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	absent := func(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }
	resolved, err := filepath.EvalSymlinks(file)
	if err != nil && !absent(err) {
		return "", false, err
	}
	for _, name := range []string{file, resolved} {
		for at := name; at != "/" && at != "."; at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err != nil && !absent(err) {
				return "", false, err
			}
			if err == nil && os.SameFile(info, want) {
				return strings.TrimPrefix(name[len(at):], "/"), true, nil
			}
		}
	}
	return "", false, nil
}

// Resolve is the name of a folder that leads through no link, also before the folder is made.
func Resolve(folder string) string {
	folder, _ = filepath.Abs(folder)
	for above, below := folder, ""; above != "/"; above, below = filepath.Dir(above), filepath.Join(filepath.Base(above), below) {
		if found, err := filepath.EvalSymlinks(above); err == nil {
			return filepath.Join(found, below)
		}
	}
	return folder
}

// AllTmp is the folder of the images that are on their way in.
func (d Dirs) AllTmp() string { return filepath.Join(d.Root, "tmp") }

// Tmp is where one image waits between pull and unpack.
func (d Dirs) Tmp(image string) string { return filepath.Join(d.AllTmp(), image) }

// PackageTar is the pulled image, one file.
func (d Dirs) PackageTar(image string) string { return filepath.Join(d.Tmp(image), "package.tar") }

// Images is the folder of the images that are here.
func (d Dirs) Images() string { return filepath.Join(d.Root, "images") }

// ImagesJSON is the file that says which name and tag is which image.
func (d Dirs) ImagesJSON() string { return filepath.Join(d.Images(), "images.json") }

// Image is the folder of one image.
func (d Dirs) Image(image string) string { return filepath.Join(d.Images(), image) }

// Layers is the folder of all layers of all images.
func (d Dirs) Layers() string { return filepath.Join(d.Root, "layers") }

// Layer is the folder of the layer with this chainID (64 hex digits).
func (d Dirs) Layer(chainID string) string { return filepath.Join(d.Layers(), chainID) }

// Volumes is the folder of all volumes.
func (d Dirs) Volumes() string { return filepath.Join(d.Root, "volumes") }

// Volume is the folder of one volume.
func (d Dirs) Volume(name string) string { return filepath.Join(d.Volumes(), name) }

// AllLasting is the folder of the containers that last: Run has links to them.
func (d Dirs) AllLasting() string { return filepath.Join(d.Root, "containers") }

// Lasting is that folder of one container.
func (d Dirs) Lasting(id string) string { return filepath.Join(d.AllLasting(), id) }

// Containers is the folder of all containers.
func (d Dirs) Containers() string { return filepath.Join(d.Run, "containers") }

// Container is the folder of one container.
func (d Dirs) Container(id string) string { return filepath.Join(d.Containers(), id) }
