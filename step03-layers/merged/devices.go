//go:build linux

package merged

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Only root may make devices. A user's layer leaves them out, and a layer above may have hard links to them. So their names are kept
// in a file beside the layer's folder, each with a zero byte behind it.

// devicesFile is beside the folder of a layer that has left out devices.
func devicesFile(layer string) string { return filepath.Join(filepath.Dir(layer), "devices") }

// KeepDevices writes down the names of the devices that a layer has left out.
func KeepDevices(layer string, leftOut map[string]bool) error {
	if len(leftOut) == 0 {
		return nil
	}
	names := strings.Join(slices.Sorted(maps.Keys(leftOut)), "\x00") + "\x00"
	return os.WriteFile(devicesFile(layer), []byte(names), 0o644)
}

// HasLeftOut tells whether a name is that of a device that a layer has left out, and no layer above it has replaced.
func (s Stack) HasLeftOut(name string) (bool, error) {
	for _, layer := range slices.Backward(s) {
		info, hidden := Lstat(layer, name)
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
