//go:build linux

package cli_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// hub answers as Docker Hub's search does.
func hub(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/search" {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintf(w, `{"num_results":3,"query":%q,"results":[
		{"name":"nginx","description":"Official build of Nginx, the web server that is here for a test.","is_official":true,"is_automated":false,"star_count":20000},
		{"name":"other/nginx","description":"red \u001b[31m\n and more","is_official":false,"star_count":7},
		{"name":"n%s","description":"","is_official":false,"star_count":0}]}`, r.URL.Query().Get("q"), r.URL.Query().Get("n"))
}

func TestSearchShowsWhatARegistryFinds(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(hub)) // plain http on loopback: as pull, it tries TLS first
	defer server.Close()
	d := emptyDirs(t)
	at := strings.TrimPrefix(server.URL, "http://") + "/nginx"
	for _, tt := range []struct {
		name  string
		flags []string
		want  string
	}{
		{"all", nil, "NAME          DESCRIPTION                                     STARS     OFFICIAL\n" +
			"nginx         Official build of Nginx, the web server that…   20000     [OK]\n" +
			"other/nginx   red ?[31m and more                              7         \n" +
			"n25                                                           0         \n"},
		{"a format", []string{"--no-trunc", "--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}} {{.Description}}", "--filter", "is-official=true"},
			"nginx 20000 [OK] Official build of Nginx, the web server that is here for a test.\n"},
		{"stars", []string{"--format", "{{.Name}}", "--filter", "stars=7", "--filter", "is-official=false"}, "other/nginx\n"},
		{"a limit", []string{"--format", "{{.Name}}", "--limit", "2"}, "nginx\nother/nginx\n"},
	} {
		got := mustGocker(t, d, append(append([]string{"search"}, tt.flags...), at)...)
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(tt.want), " ") {
			t.Errorf("%s: search prints\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

func TestSearchRefusesInWords(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer page.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{strings.TrimPrefix(other.URL, "http://") + "/x"}, []string{"the registry cannot be searched", "it has no /v1/search"}},
		{[]string{strings.TrimPrefix(page.URL, "http://") + "/x"}, []string{"the registry cannot be searched", "not a search's"}},
		{[]string{strings.TrimPrefix(closed.URL, "http://") + "/x"}, []string{"cannot reach", "refused"}},
		{[]string{"--limit", "101", "x"}, []string{"--limit 101"}},
		{[]string{"--filter", "colour=red", "x"}, []string{`--filter "colour=red"`, "there are is-official and stars"}},
		{[]string{"--filter", "stars=many", "x"}, []string{`--filter "stars=many"`}},
	} {
		out, err := gocker(t, emptyDirs(t), append([]string{"search"}, tt.args...)...)
		if err == nil {
			t.Errorf("search %q succeeded: %s", tt.args, out)
			continue
		}
		for _, want := range tt.want {
			if text := fmt.Sprint(err) + out; !strings.Contains(text, want) {
				t.Errorf("search %q says %s; want %q in it", tt.args, text, want)
			}
		}
	}
}
