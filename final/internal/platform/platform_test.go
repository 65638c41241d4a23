//go:build linux

package platform

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestPlatformsAreReadAsDockerReadsThem(t *testing.T) {
	host := Host().String()
	for s, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm64/v8": "linux/arm64", "linux/arm64/8": "linux/arm64", "arm64": "linux/arm64", "amd64": "linux/amd64",
		"linux/aarch64": "linux/arm64", "linux/x86_64": "linux/amd64", "x86-64": "linux/amd64", "linux": host, "Linux": host, "linux/arm": "linux/arm/v7",
		"linux/arm/v6": "linux/arm/v6", "linux/arm/7": "linux/arm/v7", "arm": "linux/arm/v7", "armhf": "linux/arm/v7", "armel": "linux/arm/v6", "i386": "linux/386",
		"linux/amd64/v1": "linux/amd64", "linux/amd64/v3": "linux/amd64/v3", "LINUX/AMD64": "linux/amd64", "windows": "windows/" + runtime.GOARCH,
		"linux/arm64/v9.0": "linux/arm64/v9", "linux/vax": "linux/vax",
		"": "", "/": "", "vax": "", "linux/": "", "linux//v8": "", "a/b/c/d": "", "linux/*": "", "linux/arm64 ": "",
	} {
		got, err := Parse(s)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("Parse(%q) = %s, %v; want %q", s, got, err, want)
		}
	}
}

func TestAPlatformRunsWhatIsMadeForItsPredecessors(t *testing.T) {
	for _, tt := range []struct {
		wanted string
		level  int
		want   string
	}{
		{"linux/amd64", 1, "amd64 386"},
		{"linux/amd64", 3, "amd64 amd64/v3 amd64/v2 386"},
		{"linux/amd64/v3", 1, "amd64/v3 amd64/v2 amd64 386"},
		{"linux/arm/v7", 1, "arm/v7 arm/v6 arm/v5"},
		{"linux/arm/v5", 1, "arm/v5"},
		{"linux/arm64", 1, "arm64 arm/v8 arm/v7 arm/v6 arm/v5"},
		{"linux/arm64/v9", 1, "arm64/v9 arm64 arm/v8 arm/v7 arm/v6 arm/v5"},
		{"linux/s390x", 1, "s390x"},
	} {
		wanted, err := Parse(tt.wanted)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range runs(wanted, tt.level) {
			got = append(got, strings.TrimPrefix(p.String(), "linux/"))
		}
		if want := strings.Fields(tt.want); !slices.Equal(got, want) {
			t.Errorf("%s at level %d runs %q, want %q", tt.wanted, tt.level, got, want)
		}
	}
	if got := Rank(v1.Platform{OS: "linux", Architecture: "x86_64"}, v1.Platform{OS: "linux", Architecture: "amd64"}); got != 0 {
		t.Errorf("the rank of x86_64 for amd64 is %d, want 0", got)
	}
	if got := Rank(v1.Platform{OS: "windows", Architecture: "amd64"}, v1.Platform{OS: "linux", Architecture: "amd64"}); got != -1 {
		t.Errorf("the rank of windows/amd64 for linux/amd64 is %d, want -1", got)
	}
}

func TestWhatAConfigLeavesOpenFits(t *testing.T) {
	arm := v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	for _, tt := range []struct {
		config v1.ConfigFile
		want   bool
	}{
		{v1.ConfigFile{}, true},
		{v1.ConfigFile{OS: "linux", Architecture: "arm"}, true},
		{v1.ConfigFile{OS: "linux", Architecture: "arm", Variant: "v7"}, true},
		{v1.ConfigFile{OS: "linux", Architecture: "ARM"}, true},
		{v1.ConfigFile{OS: "windows"}, false},
		{v1.ConfigFile{OS: "linux", Architecture: "arm64"}, false},
	} {
		if got := Runs(&tt.config, arm); got != tt.want {
			t.Errorf("Runs(%s, %s) = %v", tt.config.Platform(), arm, got)
		}
	}
}
