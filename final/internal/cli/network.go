//go:build linux

package cli

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/filter"
	"gocker/final/internal/networks"
	"gocker/step01-pull/shared/advice"
)

func networkCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{Use: "network", Short: "Commands for networks: they connect containers", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(networkCreateCommand(e), networkListCommand(e), networkInspectCommand(e), networkRmCommand(e), networkPruneCommand(e),
		networkConnectCommand(e), networkDisconnectCommand(e))
	return cmd
}

func networkCreateCommand(e *engine.Engine) *cobra.Command {
	var n networks.Network
	var subnets subnetFlags
	var driver string
	var labels, options []string
	cmd := &cobra.Command{
		Use:   "create [flags] NAME",
		Short: "Make a network",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if driver != "bridge" {
				return advice.Add(fmt.Errorf("--driver %q: %w: a network of gocker is a bridge", driver, describe.ErrOption), "leave it out; for the host's own network: run --network host")
			}
			n.Name, n.Labels, n.Options = args[0], keyValues(labels), keyValues(options)
			if (networks.Network{Name: n.Name}).Builtin() {
				return fmt.Errorf("%w: %s", networks.ErrBuiltin, n.Name)
			}
			if n.Subnets, err = subnets.parse(); err != nil {
				return err
			}
			made, err := e.Networks().Create(n)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), made.ID)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.Var((*commaList)(&subnets.subnets), "subnet", "`ADDRESS/BITS`: its containers have addresses of this subnet (default one that is free)")
	f.Var((*commaList)(&subnets.gateways), "gateway", "the host's own `address` in the subnet (default the first)")
	f.Var((*commaList)(&subnets.ranges), "ip-range", "`ADDRESS/BITS`: the part of the subnet from which containers get their addresses")
	f.Var((*list)(&subnets.aux), "aux-address", "`NAME=ADDRESS`: no container gets this address")
	f.BoolVar(&n.Internal, "internal", false, "nothing leads out of it or into it")
	ipv4 := f.VarPF(only("true"), "ipv4", "", "`true`: its containers have IPv4 addresses in any case")
	ipv4.NoOptDefVal = "true"
	f.BoolVar(&n.IPv6, "ipv6", false, "its containers have IPv6 addresses, too")
	f.Var((*labelList)(&labels), "label", "`KEY=value` to be found by")
	f.VarP((*list)(&options), "opt", "o", "`KEY=value`: com.docker.network.bridge.name, com.docker.network.driver.mtu, com.docker.network.bridge.enable_icc, …enable_ip_masquerade, …host_binding_ipv4")
	f.StringVarP(&driver, "driver", "d", "bridge", "`bridge`: there is no other")
	f.Var(only("default"), "ipam-driver", "`default`: there is no other")
	f.Var(only("local"), "scope", "`local`: there is no other")
	f.Bool("attachable", true, "changes nothing: containers may always be connected")
	return cmd
}

// keyValues are KEY=VALUE, or KEY, as a map.
func keyValues(pairs []string) map[string]string {
	known := map[string]string{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		known[key] = value
	}
	return known
}

// subnetFlags are the flags about addresses. What belongs to which subnet the addresses say.
type subnetFlags struct{ subnets, gateways, ranges, aux []string }

func (f subnetFlags) parse() (subnets []networks.Subnet, err error) {
	for _, text := range f.subnets {
		subnet, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, badAddress("subnet", text, "write ADDRESS/BITS, for example 10.90.0.0/24")
		}
		subnets = append(subnets, networks.Subnet{Subnet: subnet, Aux: map[string]netip.Addr{}})
	}
	of := func(flag, text string, addr netip.Addr) (*networks.Subnet, error) {
		i := slices.IndexFunc(subnets, func(s networks.Subnet) bool { return s.Subnet.Contains(addr) })
		if i < 0 {
			return nil, badAddress(flag, text, "it is in none of the subnets that --subnet names")
		}
		return &subnets[i], nil
	}
	for _, text := range f.ranges {
		part, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, badAddress("ip-range", text, "write ADDRESS/BITS, for example 10.90.0.128/25")
		}
		subnet, err := of("ip-range", text, part.Addr())
		if err != nil {
			return nil, err
		}
		subnet.Range = part
	}
	for _, text := range f.gateways {
		addr, _ := netip.ParseAddr(text)
		subnet, err := of("gateway", text, addr)
		if err != nil {
			return nil, err
		}
		subnet.Gateway = addr
	}
	for _, text := range f.aux {
		name, value, _ := strings.Cut(text, "=")
		addr, _ := netip.ParseAddr(value)
		subnet, err := of("aux-address", text, addr)
		if err != nil {
			return nil, err
		}
		subnet.Aux[name] = addr
	}
	return subnets, nil
}

func badAddress(flag, text, hint string) error {
	return advice.Add(fmt.Errorf("--%s %q: %w", flag, text, networks.ErrSubnet), "%s", hint)
}

// networkRow is a row of network ls, with docker's names.
type networkRow struct {
	CreatedAt string `header:"CREATED AT"`
	Driver    string
	ID        string `header:"NETWORK ID"`
	IPv4      string
	IPv6      string
	Internal  string
	Labels    string
	Name      string
	Scope     string

	labels map[string]string
}

// Label is the value of one label.
func (r networkRow) Label(name string) string {
	return printable(struct{ Text string }{r.labels[name]}).Text
}

func networkListCommand(e *engine.Engine) *cobra.Command {
	var format string
	var quiet, whole bool
	var filters []string
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List networks",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, unread := e.Networks().ListAll()
			if all == nil && unread != nil {
				return unread
			}
			used, err := e.Life().NetworkUsers()
			if unread = errors.Join(unread, err); used == nil {
				return unread
			}
			passes, err := networkFilter(filters, used)
			if err != nil {
				return err
			}
			var rows []networkRow
			for _, n := range all {
				if !passes(n) {
					continue
				}
				id := n.ID
				if !whole {
					id = id[:12]
				}
				rows = append(rows, networkRow{
					CreatedAt: n.Created.Format(timeFormat), Driver: n.Driver(), ID: id, IPv4: strconv.FormatBool(n.Driver() == "bridge"),
					IPv6: strconv.FormatBool(n.IPv6), Internal: strconv.FormatBool(n.Internal), Labels: pairs(n.Labels), Name: n.Name, Scope: "local",
					labels: n.Labels,
				})
			}
			if quiet && format == "" {
				format = "{{.ID}}"
			}
			return errors.Join(printFormatted(cmd.OutOrStdout(), format, `table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}`, rows), unread)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "only ids")
	f.BoolVar(&whole, "no-trunc", false, "show whole ids")
	f.VarP((*list)(&filters), "filter", "f", "`KEY=VALUE`: name=NETWORK, id=, driver=bridge|host|null, label=KEY[=VALUE], type=custom|builtin, scope=local, dangling=true|false (true: no container is on it)")
	f.StringVar(&format, "format", "", formatHelp)
	return cmd
}

// networkFilter reads docker's filters. Those of one kind are alternatives, but for labels: a network has to have all.
func networkFilter(filters []string, used map[string][]string) (passes func(networks.Network) bool, err error) {
	kinds := filter.Tests[networks.Network]{}
	for i, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		kind := key
		var pass func(networks.Network) bool
		switch key {
		case "name":
			name, reErr := regexp.Compile(value)
			pass, err = func(n networks.Network) bool { return name.MatchString(n.Name) }, reErr
		case "id":
			pass = func(n networks.Network) bool { return strings.HasPrefix(n.ID, value) }
		case "driver":
			pass = func(n networks.Network) bool { return n.Driver() == value }
		case "scope":
			pass = func(networks.Network) bool { return value == "local" }
		case "label":
			kind = fmt.Sprint("label ", i)
			pass = func(n networks.Network) bool { return filter.HasLabel(n.Labels, value) }
		case "type":
			if value != "custom" && value != "builtin" {
				err = errors.New("a network is custom or builtin")
			}
			pass = func(n networks.Network) bool { return n.Builtin() == (value == "builtin") }
		case "dangling":
			dangling, boolErr := strconv.ParseBool(value)
			pass, err = func(n networks.Network) bool { return (!n.Builtin() && len(used[n.ID]) == 0) == dangling }, boolErr
		default:
			return nil, advice.Add(fmt.Errorf("--filter %q: %w", f, describe.ErrOption), "there are name, id, driver, label, type, scope and dangling")
		}
		if err != nil {
			return nil, fmt.Errorf("--filter %q: %w", f, err)
		}
		kinds[kind] = append(kinds[kind], pass)
	}
	return kinds.Pass, nil
}

func networkInspectCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [flags] NETWORK…",
		Short: "Show everything about networks, as JSON",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect(cmd, args, format, func(name string) (any, error) { return e.Look().Network(name) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", inspectHelp)
	cmd.Flags().BoolP("verbose", "v", false, "changes nothing: everything is shown")
	return cmd
}

func networkRmCommand(e *engine.Engine) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] NETWORK…",
		Aliases: []string{"remove"},
		Short:   "Remove networks that no running container is on",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachDo(args, func(arg string) error {
				_, err := e.Networks().Remove(arg)
				if force && errors.Is(err, networks.ErrNoNetwork) {
					return nil
				}
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), arg)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "one that is not there is no error")
	return cmd
}

func networkPruneCommand(e *engine.Engine) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove the networks that no container has, and the bridge of the default network while no container uses it",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkPrune(filters, true); err != nil {
				return err
			}
			if !force && !confirm(cmd, "This removes all networks that no container has.") {
				return nil
			}
			return pruneNetworks(cmd.OutOrStdout(), e, filters)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().Var((*list)(&filters), "filter", pruneFilterHelp)
	return cmd
}

// pruneNetworks prints as docker does.
func pruneNetworks(w io.Writer, e *engine.Engine, filters []string) error {
	var removed []string
	err := e.Life().PruneNetworks(filters, func(name string) { removed = append(removed, name) })
	if removed != nil {
		fmt.Fprintf(w, "Deleted Networks:\n%s\n\n", strings.Join(removed, "\n"))
	}
	return err
}

func networkConnectCommand(e *engine.Engine) *cobra.Command {
	var flags describe.NetworkFlags
	var priority int
	cmd := &cobra.Command{
		Use:   "connect [flags] NETWORK CONTAINER",
		Short: "Put a container on one more network: at once if it runs, else when it starts",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			flags.Networks = args[:1]
			want, err := flags.Want()
			if err != nil {
				return err
			}
			want.Priority = priority
			return e.Life().Connect(args[1], want)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.IP, "ip", "", "its IPv4 `address` on the network")
	f.StringVar(&flags.IP6, "ip6", "", "its IPv6 `address` on the network")
	f.Var((*list)(&flags.Aliases), "alias", "one more `name` by which others on the network find it")
	f.Var((*list)(&flags.Links), "link", "the name of another container, and how it finds it: `CONTAINER[:ALIAS]`")
	f.Var((*list)(&flags.DriverOpts), "driver-opt", "`KEY=value`: com.docker.network.endpoint.ifname, the name of its device; com.docker.network.endpoint.sysctls")
	f.IntVar(&priority, "gw-priority", 0, "the default route leads through its network with the largest `number`")
	return cmd
}

func networkDisconnectCommand(e *engine.Engine) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "disconnect [flags] NETWORK CONTAINER",
		Short: "Take a container off a network",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			err := e.Life().Disconnect(args[1], args[0])
			if force && errors.Is(err, containers.ErrNoContainer) {
				return e.Life().DisconnectGone(args[1], args[0])
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also a container that is gone and has left something on the network")
	return cmd
}
