//go:build linux

package look

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/blkiodev"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/logs"
	"gocker/final/internal/resources"
)

// A Inspection is what "docker inspect" tells of a container, and what it used.
type Inspection struct {
	docker.InspectResponse
	NetworkSettings networkSettings  // not docker's type: a template shows its unset addresses as "invalid IP"
	Usage           *resources.Stats `json:",omitempty"` // as the kernel counted, if it has ended
}

// Inspect tells all about a container; size counts its files, too.
func (look Look) Inspect(name string, size bool) (i Inspection, err error) {
	s, err := look.Containers.Find(name)
	if err != nil {
		return i, err
	}
	spec, err := look.Containers.ReadSpec(s.ID)
	if err != nil {
		return i, err
	}
	img, err := look.Containers.ImageOf(s.ID)
	if err != nil {
		return i, err
	}
	f, err := look.Containers.View(s.ID)
	if err != nil {
		return i, err
	}
	i.InspectResponse = docker.InspectResponse{
		ID: s.Whole(), Created: timestamp(s.Created), Path: spec.Process.Args[0], Args: spec.Process.Args[1:], State: inspectState(s),
		Image: "sha256:" + s.ImageID, Name: "/" + s.Name, RestartCount: s.Restarts, Driver: "overlay", Platform: img.Config.OS,
		HostConfig: inspectHostConfig(s, spec), Config: inspectConfig(s, spec, img.Config.Config),
		GraphDriver: &storage.DriverData{Name: "overlay", Data: map[string]string{
			"LowerDir": strings.Join(topmostFirst(f.Lower), ":"), "UpperDir": f.Upperdir(), "WorkDir": f.Workdir(), "MergedDir": f.Mnt(),
		}},
	}
	if i.State.Health, err = look.Containers.Health(s); err != nil {
		return i, err
	}
	if i.NetworkSettings, err = look.inspectNetwork(s); err != nil {
		return i, err
	}
	for name, path := range map[string]*string{"resolv.conf": &i.ResolvConfPath, "hostname": &i.HostnamePath, "hosts": &i.HostsPath, "log.json": &i.LogPath} {
		file := filepath.Join(f.Dir, name)
		if name == "log.json" {
			file = logs.Name(logs.Folder(f.Dir))
		}
		if _, err := os.Stat(file); err == nil {
			*path = file
		}
	}
	if i.Mounts, err = describe.MountPoints(look.Volumes, spec, s.Bundle); err != nil {
		return i, err
	}
	if size {
		s, err := look.Size(s)
		if err != nil {
			return i, err
		}
		i.SizeRw, i.SizeRootFs = &s.Changed, &s.Root
	}
	if s.Condition() == "exited" {
		i.Usage = &s.Usage
	}
	return i, nil
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func topmostFirst(stack []string) (folders []string) {
	for _, folder := range stack {
		folders = append([]string{folder}, folders...)
	}
	return folders
}

// inspectState has docker's flags: a container that is paused or waits for its restart counts as running, too.
func inspectState(s containers.State) *docker.State {
	condition := s.Condition()
	return &docker.State{
		Status: docker.ContainerState(condition), Running: condition == "running" || condition == "paused" || condition == "restarting",
		Paused: condition == "paused", Restarting: condition == "restarting", OOMKilled: s.OOMKilled, Pid: s.Pid,
		ExitCode: s.ExitCode, Error: s.Error, StartedAt: timestamp(s.Started), FinishedAt: timestamp(s.Finished),
	}
}

func inspectConfig(s containers.State, spec *specs.Spec, image v1.Config) *docker.Config {
	o := s.Options
	c := &docker.Config{
		Hostname: spec.Hostname, Domainname: spec.Domainname, User: o.User, AttachStdin: o.Interactive && !o.Detached,
		AttachStdout: !o.Detached, AttachStderr: !o.Detached, Tty: o.Terminal, OpenStdin: o.Interactive, StdinOnce: o.Interactive && !o.Detached,
		Env: spec.Process.Env, Image: s.Image, Volumes: image.Volumes, WorkingDir: spec.Process.Cwd, Labels: s.Annotations,
		Entrypoint: image.Entrypoint, Cmd: o.Args, StopSignal: s.StopSignal, StopTimeout: o.StopTimeout, Healthcheck: o.Healthcheck,
	}
	if o.User == "" {
		c.User = image.User
	}
	if len(o.Args) == 0 {
		c.Cmd = image.Cmd
	}
	if o.Entrypoint != nil {
		c.Entrypoint, c.Cmd = nil, o.Args
		if *o.Entrypoint != "" {
			c.Entrypoint = []string{*o.Entrypoint}
		}
	}
	c.ExposedPorts = network.PortSet{}
	exposed := slices.Concat(o.Network.Expose, slices.Collect(maps.Keys(image.ExposedPorts)))
	for _, p := range o.Network.Publish { // docker counts them in
		exposed = append(exposed, Port{Container: p.Port, Protocol: p.Protocol}.String())
	}
	for _, name := range exposed {
		if port, err := network.ParsePort(name); err == nil { // it is the image's word, and nobody opens it
			c.ExposedPorts[port] = struct{}{}
		}
	}
	return c
}

// usersMode is podman's word for users of its own.
func usersMode(users describe.Users) docker.UsernsMode {
	if users.Own() {
		return "private"
	}
	return docker.UsernsMode(users.Mode)
}

func inspectHostConfig(s containers.State, spec *specs.Spec) *docker.HostConfig {
	o := s.Options
	h := &docker.HostConfig{
		Annotations: o.Annotations, Binds: o.Mounts.Volumes, ContainerIDFile: o.CIDFile, NetworkMode: docker.NetworkMode(networkOf(s)), PortBindings: bindings(o.Network.Publish),
		PublishAllPorts: o.Network.PublishAll, Links: links(s),
		LogConfig:     docker.LogConfig{Type: o.Log.Name, Config: logOptions(o.Log)},
		RestartPolicy: docker.RestartPolicy{Name: docker.RestartPolicyMode(o.Restart.Name), MaximumRetryCount: o.Restart.Max},
		AutoRemove:    o.Remove, CapAdd: o.Isolation.CapAdd, CapDrop: o.Isolation.CapDrop, CgroupnsMode: docker.CgroupnsMode(o.Isolation.Cgroupns),
		DNSOptions: o.Names.DNSOptions, DNSSearch: o.Names.DNSSearch, ExtraHosts: o.Names.Hosts, GroupAdd: o.Attributes.GroupAdd,
		IpcMode: docker.IpcMode(o.Isolation.IPC), PidMode: docker.PidMode(o.Isolation.PID), UTSMode: docker.UTSMode(o.Isolation.UTS),
		UsernsMode: usersMode(o.Isolation.Users), OomScoreAdj: o.Limits.OOMScoreAdj, Privileged: o.Isolation.Privileged, ReadonlyRootfs: spec.Root.Readonly,
		SecurityOpt: o.Isolation.SecurityOpts, Sysctls: spec.Linux.Sysctl, MaskedPaths: spec.Linux.MaskedPaths, ReadonlyPaths: spec.Linux.ReadonlyPaths,
		Resources: inspectResources(s, spec.Linux.Resources),
	}
	for _, address := range o.Names.DNS {
		if a, err := netip.ParseAddr(address); err == nil { // gocker run has refused all others
			h.DNS = append(h.DNS, a)
		}
	}
	h.Tmpfs = map[string]string{}
	for _, t := range o.Mounts.Tmpfs {
		folder, options, _ := strings.Cut(t, ":")
		h.Tmpfs[folder] = options
	}
	for _, m := range spec.Mounts {
		for _, option := range m.Options {
			if size, ok := strings.CutPrefix(option, "size="); ok && m.Destination == "/dev/shm" {
				h.ShmSize, _ = units.RAMInBytes(size) // the runtime has mounted it
			}
		}
	}
	for _, l := range spec.Process.Rlimits {
		h.Ulimits = append(h.Ulimits, &docker.Ulimit{Name: strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), Soft: int64(l.Soft), Hard: int64(l.Hard)})
	}
	return h
}

func inspectResources(s containers.State, spec *specs.LinuxResources) docker.Resources {
	o := s.Options.Limits
	r := docker.Resources{CgroupParent: o.CgroupParent}
	if cpus, err := strconv.ParseFloat(o.CPUs, 64); err == nil {
		r.NanoCPUs = int64(cpus * 1e9)
	}
	for _, device := range o.Devices {
		parts := strings.SplitN(device, ":", 3)
		d := docker.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
		for _, part := range parts[1:] {
			if strings.HasPrefix(part, "/") {
				d.PathInContainer = part
			} else {
				d.CgroupPermissions = part
			}
		}
		r.Devices = append(r.Devices, d)
	}
	if spec == nil {
		return r
	}
	if m := spec.Memory; m != nil {
		r.Memory, r.MemorySwap, r.MemoryReservation = value(m.Limit), value(m.Swap), value(m.Reservation)
	}
	if c := spec.CPU; c != nil {
		r.CPUShares, r.CpusetCpus, r.CpusetMems = int64(value(c.Shares)), c.Cpus, c.Mems
		if r.NanoCPUs == 0 { // docker tells the one or the other
			r.CPUQuota, r.CPUPeriod = value(c.Quota), int64(value(c.Period))
		}
	}
	if spec.Pids != nil {
		r.PidsLimit = spec.Pids.Limit
	}
	if b := spec.BlockIO; b != nil {
		r.BlkioWeight = value(b.Weight)
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps = rates(o.ReadBPS, b.ThrottleReadBpsDevice), rates(o.WriteBPS, b.ThrottleWriteBpsDevice)
		r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = rates(o.ReadIOPS, b.ThrottleReadIOPSDevice), rates(o.WriteIOPS, b.ThrottleWriteIOPSDevice)
	}
	return r
}

// logOptions are those of the log driver; not nil.
func logOptions(l describe.LogDriver) map[string]string {
	if l.Options == nil {
		return map[string]string{}
	}
	return l.Options
}

// rates are DEVICE:RATE as the user wrote it, with the rate as it was understood.
func rates(written []string, devices []specs.LinuxThrottleDevice) (all []*blkiodev.ThrottleDevice) {
	for i, s := range written[:min(len(written), len(devices))] {
		all = append(all, &blkiodev.ThrottleDevice{Path: s[:strings.LastIndexByte(s, ':')], Rate: devices[i].Rate})
	}
	return all
}

// value is what p points to, or 0 for nil.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
