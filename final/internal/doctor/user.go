//go:build linux

package doctor

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"gocker/final/internal/firewall"
	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
)

// ofUser are the checks for a user who is not root, and is in the user's namespaces, or could not go in.
func ofUser() (results []check.Result) {
	if err := rootless.Barred(); err != nil {
		results = append(results, check.Miss("without root", err.Error(), "containers of this user", advice.Of(err)))
	}
	if usernamespace.Inside() {
		results = append(results, ownIDs())
		results = append(results, ownNetworks()...)
		results = append(results, lingering()...)
	}
	return results
}

// ownIDs tells who is who in the user namespace that this process is in.
func ownIDs() check.Result {
	const name = "user namespace"
	ids := usernamespace.LastGroup()
	outside, _ := usernamespace.Here("uid_map")
	if ids == 0 {
		return check.Miss(name, fmt.Sprintf("root is user %d outside, and there is no other user", outside), "images with files of several users, and commands of other users than root",
			"as root: apt-get install uidmap, and usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER; and then end all containers").Optional()
	}
	return check.Good(name, "root is user %d outside, and there are %d more ids", outside, ids).Optional()
}

// ownNetworks are the checks for a user, whose networks are in a namespace of the user's own.
func ownNetworks() []check.Result {
	err := rootless.CheckNetworks()
	program := ""
	if err == nil && rootless.Apart() {
		program, err = rootless.CheckUplink()
	}
	const breaks = "containers reach nothing outside, but with --network host"
	if err != nil {
		return []check.Result{check.Miss("way out", err.Error(), breaks, advice.Of(err)).Optional()}
	}
	results := []check.Result{firewall.Kernel()}
	if program != "" {
		results = append(results, check.Good("way out", "by %s", program).Optional())
	}
	if err := rootless.CheckPing(); err != nil {
		results = append(results, check.Miss("ping", err.Error(), "ping in containers, to other machines", advice.Of(err)).Optional())
	}
	return results
}

// lingering tells whether the user's processes go on after the last logout. Where there is no systemd, nobody ends them: see
// sd_booted(3) and loginctl(1).
func lingering() []check.Result {
	const name, breaks = "lingering", "all containers of this user end when the user logs out"
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil
	}
	uid, _ := usernamespace.Here("uid_map")
	who := strconv.Itoa(uid)
	if u, err := user.LookupId(who); err == nil {
		who = u.Username
	}
	if _, err := os.Stat("/var/lib/systemd/linger/" + who); err == nil {
		return []check.Result{check.Good(name, "the containers of %s go on after a logout", who).Optional()}
	}
	return []check.Result{check.Miss(name, "systemd ends what "+who+" has started", breaks, "as root: loginctl enable-linger "+who).Optional()}
}
