//go:build linux

package learn

// wrongUntars are wrong answers to step 2.
var wrongUntars = []wrong{
	{"a name with .. is followed", "dotdot", "	name := path.Clean(h.Name)\n	check(root.Mk", `	name := path.Clean(h.Name)
	if strings.HasPrefix(name, "../") {
		check(os.WriteFile(filepath.Join(root.Name(), "..", path.Base(name)), nil, 0o644))
		return
	}
	check(root.Mk`},
	{"an absolute name is taken for a relative one", "absolute", "	name := path.Clean(h.Name)\n	check(root.Mk", `	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	h.Name = name
	check(root.Mk`},
	{"a link is followed out of the folder", "through", "	name := path.Clean(h.Name)\n	check(root.Mk", `	name := path.Clean(h.Name)
	if _, err := root.Stat(path.Dir(name)); err != nil && !errors.Is(err, fs.ErrNotExist) && filepath.IsLocal(name) {
		check(os.WriteFile(filepath.Join(root.Name(), name), nil, 0o644))
		return
	}
	check(root.Mk`},
	{"a folder is looked at once", "swapped", "	name := path.Clean(h.Name)\n	check(root.Mk", `	name := path.Clean(h.Name)
	if seen := "seen " + path.Dir(name); h.Typeflag == tar.TypeReg && path.Dir(name) != "." {
		if os.Getenv(seen) != "" {
			check(os.WriteFile(filepath.Join(root.Name(), name), nil, 0o644))
			return
		}
		os.Setenv(seen, "yes")
	}
	check(root.Mk`},
	{"links that lead out stay", "link-out", `	check(fs.WalkDir(root.FS(), ".", func(`, `	_ = (fs.WalkDir(root.FS(), ".", func(`},
	{"the target of a hard link is not looked at", "hard-link-out", `check(root.Link(path.Clean(h.Linkname), name))`,
		`if target := filepath.Join(filepath.Dir(root.Name()), h.Linkname); os.Link(target, filepath.Join(root.Name(), name)) != nil {
			check(root.Link(path.Clean(h.Linkname), name))
		}`},
	{"chmod before chown", "setuid", `check(root.Lchown(name, h.Uid, h.Gid))`, `if h.Typeflag != tar.TypeSymlink {
		check(root.Chmod(name, h.FileInfo().Mode()))
		h.Mode &^= 0o6000 // what chown clears
	}
	check(root.Lchown(name, h.Uid, h.Gid))`},
	{"times of folders before their content", "folder-time", `folders = append(folders, h)`, `attributes(root, h)`},
	{"no owner", "owner", `check(root.Lchown(name, h.Uid, h.Gid))`, ``},
	{"the mode is open's", "mode", `check(root.Chmod(name, h.FileInfo().Mode()))`, `check(root.Chmod(name, h.FileInfo().Mode()&^0o22))`},
	{"a hard link is a copy", "hard-link", `check(root.Link(path.Clean(h.Linkname), name))`, `check(root.WriteFile(name, must(root.ReadFile(path.Clean(h.Linkname))), 0o644))`},
	{"no look at the end mark", "cut", `plain.zeros < 1024`, `false`},
	{"an empty archive is one", "no-archive", `	if entries == 0 || plain`, `	if plain`},
	{"a status of 0 for everything", "status-0", `return 1, err`, `return 0, err`},
	{"no word about an error", "silent", `fmt.Fprintln(os.Stderr, "P:", err)`, ``},
	{"half of an archive stays", "half", `	defer os.RemoveAll(partial)
	unpack(file, partial)`, `	unpack(file, partial)
	defer os.RemoveAll(partial)`},
	{"gzip is not read", "gzip", `string(magic) == "\x1f\x8b"`, `string(magic) == ".gz"`},
	{"no times", "time", `check(root.Chtimes(name, h.ModTime, h.ModTime))`, ``},
	{"no device nodes", "device", `check(unix.Mknodat(int(dir.Fd()), path.Base(name), kind, `, `check(unix.Mknodat(int(dir.Fd()), path.Base(name), kind&0|unix.S_IFIFO, `},
	{"only the xattrs of another program", "xattr", `strings.CutPrefix(key, "SCHILY.xattr.")`, `strings.CutPrefix(key, "LIBARCHIVE.xattr.")`},
	{"nothing makes room", "last", `check(root.RemoveAll(name))`, ``},
	{"folders must have entries", "folder", `check(root.MkdirAll(path.Dir(name), 0o755))`, ``},
	{"a link is a copy of its target", "symlink", `check(root.Symlink(h.Linkname, name))`, `check(root.WriteFile(name, must(root.ReadFile(path.Join(path.Dir(name), h.Linkname))), 0o644))`},
}
