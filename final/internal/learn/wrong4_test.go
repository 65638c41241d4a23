//go:build linux

package learn

// wrongMounts are wrong answers to step 4.
var wrongMounts = []wrong{
	{"the files are copied", "mount", `check(unix.Mount("overlay", filepath.Join(dir, "mnt"), "overlay", unix.MS_NODEV, options))`,
		`check(os.CopyFS(filepath.Join(dir, "mnt"), os.DirFS(lower[0]))); _ = unix.MS_NODEV; _ = options`},
	{"the folders have other names", "folders", `	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(lower, ":"), escape(filepath.Join(dir, "upperdir"))`, `	os.Rename(filepath.Join(dir, "upperdir"), filepath.Join(dir, "changes"))
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(lower, ":"), escape(filepath.Join(dir, "changes"))`},
	{"only the lowest layer", "files", `range manifest[0].Layers {`, `range manifest[0].Layers[:1] {`},
	{"the lowest layer is on top", "order", `	slices.Reverse(lower)
`, `	if false {
		slices.Reverse(lower)
	}
`},
	{"the first image with the tag", "tag", `id, ok := names[name][tag]`, `id, ok := names["aaa"][tag]; _ = name`},
	{"a port is taken for a tag", "port", `strings.LastIndex(image, ":")`, `strings.Index(image, ":")`},
	{"there is no upperdir", "write", `options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(lower, ":"), escape(`, `options := fmt.Sprintf("lowerdir=%s:%s%.0s",
		strings.Join(lower, ":"), escape(`},
	{"the topmost layer is upperdir", "below", `	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(lower, ":"), escape(filepath.Join(dir, "upperdir"))`, `	upper := filepath.Join(dir, "upperdir")
	if len(lower) > 2 {
		upper, lower = must(filepath.Abs(lower[0])), lower[1:]
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(lower, ":"), escape(upper)`},
	{"umount does nothing", "umount", `return unix.Unmount(filepath.Join(dir, "mnt"), 0)`, `return nil`},
	{"umount removes all", "stays", `return unix.Unmount(filepath.Join(dir, "mnt"), 0)`, `check(unix.Unmount(filepath.Join(dir, "mnt"), 0))
	return os.RemoveAll(dir)`},
	{"folders must not be there", "again", `check(os.MkdirAll(filepath.Join(dir, folder), 0o755))`, `os.Mkdir(dir, 0o755)
		check(os.Mkdir(filepath.Join(dir, folder), 0o755))`},
	{"all containers have one upperdir", "two", `escape(filepath.Join(dir, "upperdir")), escape(filepath.Join(dir, "workdir")))`,
		`escape(filepath.Join(dir, "upperdir")), escape(filepath.Join(dir, "workdir")))
	if path.Base(dir) == "c2" {
		options = strings.ReplaceAll(options, "/c2/", "/c/")
	}`},
	{"names are not escaped", "colon", `NewReplacer(` + "`" + `\` + "`" + `, ` + "`" + `\\` + "`" + `, ` + "`" + `:` + "`" + `, ` + "`" + `\:` + "`" + `, ` + "`" + `,` + "`" + `, ` + "`" + `\,` + "`" + `)`, `NewReplacer()`},
	{"the options are too long", "many", `lower = append(lower, folder+"/fs")`, `lower = append(lower, must(filepath.Abs(folder+"/fs")))`},
	{"folders are made for no image", "no-image", `		panic("no such image: " + image)`, `		os.MkdirAll(dir, 0o755)
		panic("no such image: " + image)`},
	{"umount of nothing is no error", "no-mount", `return unix.Unmount(filepath.Join(dir, "mnt"), 0)`, `unix.Unmount(filepath.Join(dir, "mnt"), 0)
	return nil`},
	{"a status of 0 for everything", "status-0", `return 1, err`, `return 0, err`},
}
