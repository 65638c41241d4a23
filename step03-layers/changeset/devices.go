//go:build linux

package changeset

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocker/step03-layers/merged"
)

// Only root may make devices. A user's layer leaves them out, and a layer above may have hard links to them. So their names are kept
// in a file beside the layer's folder, each with a zero byte behind it.

// devicesFile is beside the folder of a layer that has left out devices.
func devicesFile(layer string) string { return filepath.Join(filepath.Dir(layer), "devices") }

// noteDevice notes a device that was left out. All the same it has replaced what lies below.
func (u *unpacker) noteDevice(name string) error {
	if info, _ := merged.Lstat(u.to, name); info != nil {
		return nil
	}
	u.devices[name], u.whiteouts[name] = true, true
	return u.names.Keep(name)
}

// keepDevices writes the names down.
func (u *unpacker) keepDevices() error {
	if len(u.devices) == 0 {
		return nil
	}
	names := strings.Join(slices.Sorted(maps.Keys(u.devices)), "\x00") + "\x00"
	return os.WriteFile(devicesFile(u.to), []byte(names), 0o644)
}

// leftOutBelow tells whether a name is that of a device that a layer below has left out, and no layer since has replaced.
func (u *unpacker) leftOutBelow(name string) (bool, error) {
	for _, layer := range slices.Backward(u.below) {
		info, hidden := merged.Lstat(layer, name)
		if info != nil {
			return false, nil
		}
		names, err := os.ReadFile(devicesFile(layer))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if strings.Contains("\x00"+string(names), "\x00"+name+"\x00") {
			return true, nil
		}
		if hidden {
			return false, nil
		}
	}
	return false, nil
}
