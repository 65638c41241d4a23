//go:build linux

package learn

// wrongPulls are wrong answers to step 1.
var wrongPulls = []wrong{
	{"the archive has no manifest.json", "manifest", `add(w, "manifest.json", must`, `add(w, "manifest", must`},
	{"the config is written anew", "config", `must(img.RawConfigFile())`, `must(json.MarshalIndent(must(img.ConfigFile()), "", " "))`},
	{"the id is that of the manifest", "id", `must(img.ConfigName())`, `must(img.Digest())`},
	{"only one layer", "layers", `range must(img.Layers())`, `range must(img.Layers())[:1]`},
	{"the topmost layer first", "order", `		names = append(names, file)`, `		names = append([]string{file}, names...)`},
	{"a layer that is there twice is named once", "twice", `		names = append(names, file)`, `		if !slices.Contains(names, file) {
			names = append(names, file)
		}`},
	{"no name", "name", `[]string{ref.Name()}`, `[]string{ref.Context().RepositoryStr()}`},
	{"always latest", "tag", `crane.Pull(ref.Name(),`, `crane.Pull(ref.Context().Name(),`},
	{"no tag is no reference", "latest", `must(name.ParseReference(reference))`, `must(name.ParseReference(reference, name.StrictValidation))`},
	{"a digest is left out", "digest", `crane.Pull(ref.Name(),`, `crane.Pull(ref.Context().Name()+map[bool]string{false: ":" + ref.Identifier()}[len(ref.Identifier()) > 70],`},
	{"an image for another platform", "platform", `Architecture: runtime.GOARCH}`, `Architecture: map[bool]string{true: "s390x"}[runtime.GOARCH != ""]}`},
	{"a file that is there is not replaced", "replace", `	check(os.Rename(f.Name(), file))`, `	check(os.Link(f.Name(), file))`},
	{"a file with another name is left", "rest", `	check(os.Rename(f.Name(), file))`, `	check(os.Link(f.Name(), file+"~"))
	check(os.Rename(f.Name(), file))`},
	{"status 0 for everything", "status-0", `return 1, err`, `return 0, err`},
	{"no word about an error", "silent", `fmt.Fprintln(os.Stderr, "P:", err)`, ``},
	{"a layer is not compared with its digest", "wrong-byte", `must(layer.Compressed())`,
		`must(http.Get("http://" + ref.Context().RegistryStr() + "/v2/" + ref.Context().RepositoryStr() + "/blobs/" + must(layer.Digest()).String())).Body`},
	{"half a file has the name", "cut", `	save(img, ref, f)`, `	check(os.Rename(f.Name(), file))
	save(img, ref, f)
	f = must(os.OpenFile(file, os.O_RDWR, 0))`},
	{"the old file is removed first", "old", `	img := must(crane`, `	os.Remove(file)
	img := must(crane`},
}
