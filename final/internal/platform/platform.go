//go:build linux

// Package platform reads the names of platforms, and finds out which of them runs where.
//
//	wanted, err := platform.Parse("aarch64")           // linux/arm64
//	rank := platform.Rank(offered, wanted)             // 0 is best, -1 does not run
//
// Names are as people, old configs and other tools write them: "x86_64" is amd64, "arm64/v8" is arm64. A machine also runs
// what is made for its predecessors: arm/v7 runs arm/v6. The rules are docker's.
package platform

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// Host is what this machine can run. Containers are Linux's, so the system is not asked for.
func Host() v1.Platform {
	host := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	var u unix.Utsname
	if host.Architecture == "arm" && unix.Uname(&u) == nil {
		host.Variant, _ = strings.CutSuffix(strings.TrimPrefix(unix.ByteSliceToString(u.Machine[:]), "arm"), "l") // armv6l
	}
	return Normal(host)
}

// part is what may stand between slashes.
var part = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// others are systems that images are made for, too.
var others = []string{"windows", "darwin", "freebsd"}

// Parse reads "linux/arm/v7", "linux/arm64", "arm64" or "linux".
func Parse(s string) (p v1.Platform, err error) {
	parts := strings.Split(s, "/")
	fine := len(parts) <= 3
	for _, word := range parts {
		fine = fine && part.MatchString(word)
	}
	switch lower := strings.ToLower(parts[0]); {
	case !fine:
		err = errors.New("it is not os/arch[/variant]")
	case len(parts) > 1:
		p.OS, p.Architecture = parts[0], parts[1]
		if len(parts) > 2 {
			p.Variant = parts[2]
		}
	case lower == "linux":
		return Host(), nil
	case slices.Contains(others, lower):
		p.OS, p.Architecture = parts[0], runtime.GOARCH
	default:
		p.Architecture = parts[0]
	}
	p = Normal(p)
	if err == nil && len(parts) == 1 && !slices.Contains(architectures, p.Architecture) {
		err = errors.New("there is no such system or architecture")
	}
	if err != nil {
		return p, advice.Add(fmt.Errorf("platform %q: %w", s, err), "a platform is os/arch[/variant], such as linux/arm64 or linux/arm/v7")
	}
	return p, nil
}

// architectures are those that Linux runs on, by Go's names.
var architectures = []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x"}

// Normal spells a platform as Go and docker do.
func Normal(p v1.Platform) v1.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	if p.OS == "" {
		p.OS = "linux"
	}
	switch p.Architecture {
	case "i386", "i686", "x86":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if p.Variant != "" && strings.Trim(p.Variant, "0123456789.") == "" {
		p.Variant = "v" + p.Variant
	}
	p.Variant = strings.TrimSuffix(p.Variant, ".0")
	switch p.Architecture + "/" + p.Variant { // what goes without saying
	case "amd64/v1", "arm64/v8":
		p.Variant = ""
	case "arm/":
		p.Variant = "v7"
	}
	return p
}

// Rank says how well something that is made for a platform runs where another one is wanted: 0 is best, -1 not at all.
func Rank(offered, wanted v1.Platform) int {
	offered = Normal(offered)
	return slices.IndexFunc(runs(Normal(wanted), level()), func(p v1.Platform) bool {
		return p.OS == offered.OS && p.Architecture == offered.Architecture && p.Variant == offered.Variant
	})
}

// runs lists what a platform runs, the best first. level is that of this machine's processor: see level.
func runs(wanted v1.Platform, level int) (all []v1.Platform) {
	add := func(architecture string, variants ...string) {
		for _, variant := range variants {
			all = append(all, v1.Platform{OS: wanted.OS, Architecture: architecture, Variant: variant})
		}
	}
	// Variants below one, down to another.
	below := func(variant string, last int) (variants []string) {
		n := 0
		fmt.Sscanf(variant, "v%d", &n)
		for n--; n >= last; n-- {
			variants = append(variants, fmt.Sprint("v", n))
		}
		return variants
	}
	add(wanted.Architecture, wanted.Variant)
	switch wanted.Architecture {
	case "amd64":
		if wanted.Variant == "" { // what is made for all comes before what is made for this processor
			add("amd64", below(fmt.Sprint("v", level+1), 2)...)
		} else {
			add("amd64", append(below(wanted.Variant, 2), "")...)
		}
		add("386", "")
	case "arm":
		add("arm", below(wanted.Variant, 5)...)
	case "arm64":
		if wanted.Variant != "" {
			add("arm64", "")
		}
		add("arm", "v8", "v7", "v6", "v5")
	}
	return all
}

// Runs tells whether an image with this config runs where a platform is wanted, the variant aside: of that many configs do not
// tell the truth. What a config leaves open fits.
func Runs(config *v1.ConfigFile, wanted v1.Platform) bool {
	is := v1.Platform{OS: config.OS, Architecture: config.Architecture}
	if is.Architecture == "" {
		is.Architecture = wanted.Architecture
	}
	is = Normal(is)
	return slices.ContainsFunc(runs(Normal(wanted), level()), func(p v1.Platform) bool {
		return p.OS == is.OS && p.Architecture == is.Architecture
	})
}

// Is tells whether an image with this config is for a platform, and not only runs there.
func Is(config *v1.ConfigFile, wanted v1.Platform) bool {
	is := Normal(v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant})
	return is.Architecture == wanted.Architecture && Runs(config, wanted) && (config.Variant == "" || Rank(is, wanted) >= 0)
}

// level is that of an x86-64 processor: see "Micro-Architecture Levels" in the System V ABI.
func level() int {
	x := cpu.X86
	switch {
	case !x.HasCX16 || !x.HasPOPCNT || !x.HasSSE42 || !x.HasSSSE3:
		return 1
	case !x.HasAVX2 || !x.HasBMI1 || !x.HasBMI2 || !x.HasFMA || !x.HasOSXSAVE:
		return 2
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512CD || !x.HasAVX512DQ || !x.HasAVX512VL:
		return 3
	}
	return 4
}
