package filter

import (
	"testing"
	"time"
)

func TestTimesHaveDockersForms(t *testing.T) {
	local := time.Local
	time.Local = time.FixedZone("test", 2*60*60)
	defer func() { time.Local = local }()
	for text, want := range map[string]string{
		"0":                             "1970-01-01T00:00:00Z",
		"1000":                          "1970-01-01T00:16:40Z",
		".5":                            "1970-01-01T00:00:00.5Z",
		"1136073845.000000001":          "2006-01-01T00:04:05.000000001Z",
		"1136073845.25":                 "2006-01-01T00:04:05.25Z",
		"2020-01-01":                    "2019-12-31T22:00:00Z",
		"2020-01-01Z":                   "2020-01-01T00:00:00Z",
		"2020-01-01+01:00":              "2019-12-31T23:00:00Z",
		"2020-01-01T00":                 "2019-12-31T22:00:00Z",
		"2020-01-01T00Z":                "2020-01-01T00:00:00Z",
		"2020-01-01T03:04":              "2020-01-01T01:04:00Z",
		"2020-01-01T03:04-05:00":        "2020-01-01T08:04:00Z",
		"2020-01-01T03:04:05":           "2020-01-01T01:04:05Z",
		"2020-01-01T03:04:05.123456789": "2020-01-01T01:04:05.123456789Z",
		"2020-01-01T03:04:05.5Z":        "2020-01-01T03:04:05.5Z",
		"2020-01-01T03:04:05.000+02:00": "2020-01-01T01:04:05Z",
	} {
		got, err := Time(text)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("Time(%q) = %s, %v, want %s", text, got.UTC().Format(time.RFC3339Nano), err, want)
		}
	}
	for _, text := range []string{"10m", "1h30m", "0s", "-1s", "1.5h"} {
		ago, _ := time.ParseDuration(text)
		if got, err := Time(text); err != nil || time.Since(got.Add(ago)).Abs() > time.Minute {
			t.Errorf("Time(%q) = %s, %v, want %s ago", text, got, err, ago)
		}
	}
	for _, text := range []string{"", ".", "yesterday", "2020-13-01", "1.2.3", "1e3", "0x10", "1_000", "+5"} {
		if got, err := Time(text); err == nil {
			t.Errorf("Time(%q) = %s, want an error", text, got)
		}
	}
}
