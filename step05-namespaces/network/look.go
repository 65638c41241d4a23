//go:build linux

package network

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Compare lists the devices, addresses and routes of two network namespaces, the host's and a container's, each by a process
// that is in it.
func Compare(w io.Writer, host, container int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tDEVICE\tTYPE\tIN\tADDRESSES\tROUTES")
	for _, of := range []struct {
		name string
		pid  int
	}{{"host", host}, {"container", container}} {
		rows, err := rowsOf(of.pid)
		if err != nil {
			return err
		}
		for _, row := range rows {
			fmt.Fprintf(t, "%s\t%s\n", of.name, row)
		}
	}
	return t.Flush()
}

// rowsOf has a row for each device that is up. All of it is read by netlink, as ip(8) does.
func rowsOf(pid int) (rows []string, err error) {
	var at *netlink.Handle
	err = Within(pid, func() (err error) {
		at, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer at.Close()
	links, err := at.LinkList()
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	for _, link := range links {
		a := link.Attrs()
		if a.RawFlags&unix.IFF_UP == 0 {
			continue
		}
		addrs, err := at.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return nil, err
		}
		routes, err := at.RouteList(link, netlink.FAMILY_V4)
		if err != nil {
			return nil, err
		}
		var ips, tos []string
		for _, addr := range addrs {
			ips = append(ips, addr.IPNet.String())
		}
		for _, route := range routes {
			to := route.Dst.String()
			if route.Gw != nil {
				to += " via " + route.Gw.String()
			}
			tos = append(tos, to)
		}
		row := []string{a.Name, link.Type(), names[a.MasterIndex], strings.Join(ips, " "), strings.Join(tos, ", ")}
		for i := range row {
			row[i] = cmp.Or(row[i], "-")
		}
		rows = append(rows, strings.Join(row, "\t"))
	}
	return rows, nil
}
