//go:build linux

package networks

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/network"
)

// These are docker's names of options of a container's place on a network.
const (
	OptDevice  = "com.docker.network.endpoint.ifname"  // the device's name in the container
	OptSysctls = "com.docker.network.endpoint.sysctls" // kernel settings of the device: net.ipv4.conf.IFNAME.log_martians=1
)

// CheckOption finds what is wrong with one of them.
func CheckOption(name, value string) error {
	switch name {
	case OptDevice:
		if badDevice(value) || value == "lo" {
			return errors.New("a device has 1 to 15 characters, and none of \"/ :%\" is in it")
		}
	case OptSysctls:
		key, _, ok := strings.Cut(value, "=")
		words := strings.Split(key, ".")
		if !ok || len(words) != 5 || words[0] != "net" || words[3] != "IFNAME" || slices.Contains(words, "") || strings.Contains(key, "/") {
			return errors.New("write net.FAMILY.KIND.IFNAME.SETTING=VALUE, for example net.ipv4.conf.IFNAME.log_martians=1")
		}
	default:
		return fmt.Errorf("there are %s and %s", OptDevice, OptSysctls)
	}
	return nil
}

// badDevice tells whether no device can have this name.
func badDevice(name string) bool {
	return name == "" || len(name) > 15 || strings.ContainsAny(name, "/ :%\t\n") || name == "." || name == ".."
}

// sysctl is the endpoint's kernel setting, or an empty file if it has none.
func (e Endpoint) sysctl() (file, value string) {
	key, value, ok := strings.Cut(e.Sysctl, "=")
	if !ok {
		return "", ""
	}
	words := strings.Split(key, ".")
	words[3] = e.Device // a dot in it is none between words
	return "/proc/sys/" + strings.Join(words, "/"), value
}

// lay lays an endpoint's cable to the network namespace of a process or thread, and sets what its device is to have.
func (e Endpoint) lay(pid int, bridge string) error {
	err := e.cable(pid, bridge).Lay()
	if file, value := e.sysctl(); err == nil && file != "" {
		err = network.Within(pid, func() error { return os.WriteFile(file, []byte(value), 0) })
	}
	if err != nil {
		return fmt.Errorf("network %s: %w", e.Network, err)
	}
	return nil
}

// tell tells what lay does.
func (e Endpoint) tell(bridge string, tell story.Story) {
	const anybody = -1 // no name of a device is made of a number
	e.cable(anybody, bridge).Tell(tell)
	if file, value := e.sysctl(); file != "" {
		tell.Sh(story.Pivot, "a kernel setting of this device", `nsenter --target="$pid" --net sh -c `+story.Quote(story.Quote("echo", value)+" >"+story.Quote(file)))
	}
}
