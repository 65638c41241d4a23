//go:build linux

package cli

import (
	"bytes"
	"strings"
	"testing"
)

type fruit struct {
	ID    string `header:"FRUIT ID"`
	Name  string
	Parts []string
}

var fruits = []fruit{{"1", "apple", []string{"core", "peel"}}, {"22", "pe\x1b[2Jar\n", nil}}

func TestFormatsPrintRows(t *testing.T) {
	const usual = `table {{.ID}}\t{{.Name}}`
	for _, tt := range []struct{ name, format, want string }{
		{"the usual table", "", "FRUIT ID   NAME\n1          apple\n22         pe?[2Jar?\n"},
		{"table alone is the usual", "table", "FRUIT ID   NAME\n1          apple\n22         pe?[2Jar?\n"},
		{"another table", `table {{.Name | upper}}\t{{.ID}}`, "NAME        FRUIT ID\nAPPLE       1\nPE?[2JAR?   22\n"},
		{"a template", "{{.ID}}={{truncate .Name 3}}", "1=app\n22=pe?\n"},
		{"json is left as it is", "json", `{"ID":"1","Name":"apple","Parts":["core","peel"]}` + "\n" + `{"ID":"22","Name":"pe\u001b[2Jar\n","Parts":null}` + "\n"},
		{"functions", `{{join .Parts "+"}} {{json .ID}}`, "core+peel \"1\"\n \"22\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := printFormatted(&out, tt.format, usual, fruits); err != nil || out.String() != tt.want {
				t.Errorf("printFormatted(%q) = %v,\n%s want\n%s", tt.format, err, out.String(), tt.want)
			}
		})
	}
	for _, format := range []string{"{{.Missing}}", "{{.ID"} {
		if err := printFormatted(new(bytes.Buffer), format, usual, fruits); err == nil {
			t.Errorf("printFormatted(%q) = nil, want an error", format)
		}
	}
}

func TestInspectedValuesHaveTheNamesOfFieldsAndOfJSON(t *testing.T) {
	type state struct {
		ID   string `json:"Id"`
		Args []string
		Size int64
	}
	values := []state{{"a<b", []string{"x"}, 14784049}}
	for format, want := range map[string]string{
		"":                     "[\n    {\n        \"Id\": \"a<b\",\n        \"Args\": [\n            \"x\"\n        ],\n        \"Size\": 14784049\n    }\n]\n",
		"json":                 "{\"Id\":\"a<b\",\"Args\":[\"x\"],\"Size\":14784049}\n",
		"{{.Id}} {{.ID}}":      "",
		"{{.Id}} {{.Size}}":    "a<b 14784049\n",
		"{{.ID}}":              "a<b\n",
		"{{range .Args}}{{.}}": "",
	} {
		var out bytes.Buffer
		err := printInspected(&out, format, values)
		if out.String() != want || (want == "") != (err != nil) {
			t.Errorf("printInspected(%q) = %q, %v, want %q", format, out.String(), err, want)
		}
	}
	var none bytes.Buffer
	if printInspected(&none, "", []state(nil)); strings.TrimSpace(none.String()) != "[]" {
		t.Errorf("printInspected of nothing = %q, want []", none.String())
	}
}
