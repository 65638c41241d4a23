//go:build linux

package look

import (
	"cmp"
	"os"
	"slices"

	"gocker/step05-namespaces/lsns"
)

// A UsedNamespace is a namespace, and whose it is.
type UsedNamespace struct {
	lsns.Namespace
	Users []string // "host", which is where gocker itself is, and the names of containers
}

// Namespaces lists those of the host and of all running containers, or of the containers that are named. Those of one type
// stand together.
func (look Look) Namespaces(containers ...string) ([]UsedNamespace, error) {
	var wanted []string
	for _, name := range containers {
		s, err := look.Containers.Running(name)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, s.Name)
	}
	states, unread := look.Containers.List()
	list, err := lsns.List()
	if err != nil {
		return nil, err
	}
	users := map[uint64][]string{}
	use := func(name string, pid int) {
		for _, ns := range lsns.Of(list, pid) {
			users[ns.NS] = append(users[ns.NS], name)
		}
	}
	use("host", os.Getpid())
	for _, s := range states {
		if s.Pid > 0 {
			use(s.Name, s.Pid)
		}
	}
	var used []UsedNamespace
	for _, ns := range list {
		of := users[ns.NS]
		if len(wanted) == 0 && len(of) > 0 || slices.ContainsFunc(of, func(user string) bool { return user == "host" || slices.Contains(wanted, user) }) {
			used = append(used, UsedNamespace{ns, of})
		}
	}
	slices.SortStableFunc(used, func(a, b UsedNamespace) int { return cmp.Compare(a.Type, b.Type) })
	return used, unread
}
