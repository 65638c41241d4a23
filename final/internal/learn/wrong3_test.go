//go:build linux

package learn

// wrongLayers are wrong answers to step 3.
var wrongLayers = []wrong{
	{"the id is the hash of manifest.json", "id", `fmt.Sprintf("%x", sha256.Sum256(rawConfig))`, `fmt.Sprintf("%x", sha256.Sum256(raw))`},
	{"the config has a short name", "config", `hash+".json"`, `hash[:12]+".json"`},
	{"manifest.json is not kept", "manifest", `check(os.WriteFile(filepath.Join(partial, "manifest.json"), raw, 0o644))`, ``},
	{"a layer's folder has its full name", "layer", `name := filepath.Join(partial, path.Base(file)[:12])`, `name := filepath.Join(partial, path.Base(file)[:64])`},
	{"the layers are in the wrong order", "content", `unpackLayer(filepath.Join(dir, file), fs, below); diffID != config.RootFS.DiffIDs[i].String()`,
		`unpackLayer(filepath.Join(dir, manifest[0].Layers[len(config.RootFS.DiffIDs)-1-i]), fs, below); diffID == ""`},
	{"names are not in two maps", "names", `names[name][tag] = hash[:12]`, `names[name+":"+tag] = map[string]string{"": hash[:12]}`},
	{"a port is taken for a tag", "port", `strings.LastIndex(ref, ":")`, `strings.Index(ref, ":")`},
	{"names of others are lost", "keep", `check(json.Unmarshal(old, &names))`, `_ = old`},
	{"whiteouts are left as they are", "whiteout", `case isWhiteout:
			defer hide(hidden)`, `case isWhiteout:
			check(root.WriteFile(name, nil, 0o644))`},
	{"opaque folders are ignored", "opaque", `defer func() { check(setOpaque(filepath.Dir(hidden))) }()`, ``},
	{"a folder that is there has no whiteout", "replaced", `setOpaque(name) // a file needs none`, ``},
	{"links are made to stay inside", "absolute-link", `root.Symlink(h.Linkname, name)`, `root.Symlink(strings.TrimLeft(h.Linkname, "/"), name)`},
	{"hard links to other layers are left out", "hard-link-below", `i := len(below) - 1;`, `i := -1;`},
	{"a setuid bit is lost by chown after chmod", "mode", `check(root.Chmod(name, h.FileInfo().Mode()))`, `check(root.Chmod(name, h.FileInfo().Mode()&^os.ModeSetuid))`},
	{"a folder has its time before its content", "time", `defer finish(root, name, h)`, `finish(root, name, h)`},
	{"folders that are left out have any mode", "left-out", "exec.Command(\"sh\", \"-c\", `[ -d", "exec.Command(\"sh\", \"-c\", `false && [ -d"},
	{"a link is followed out of the layer", "through", `	check(root.Mkdir(dir, 0o755))`, `	if root.Mkdir(dir, 0o755) != nil {
		os.WriteFile(filepath.Join(root.Name(), dir, "new"), nil, 0o644)
	}`},
	{"the layer is not compared with its diffID", "wrong-layer", `diffID != config.RootFS.DiffIDs[i].String()`, `diffID == config.RootFS.DiffIDs[i].String()+"?"`},
	{"half of an image stays", "half", `defer os.RemoveAll(partial)`, ``},
	{"a status of 0 for everything", "status-0", `return 1, err`, `return 0, err`},
	{"the same layer again has the same folder", "twice", `name = fmt.Sprintf("%s-%d", name, n)`, `name = fmt.Sprintf("%s+%d", name, n)`},
}
