//go:build linux

package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
	"text/template/parse"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/docker/cli/templates"

	"gocker/step01-pull/shared/advice"
)

// The lists of docker's commands are rows of a struct, and templates name its fields. A table is a template too, with
// tabs between the cells: "table {{.ID}}\t{{.Names}}". Its header is the fields' names in capitals, or what their tag
// header says:
//
//	type row struct {
//		ID    string `header:"CONTAINER ID"`
//		Names string
//	}
//	err := printFormatted(w, format, "table {{.ID}}\t{{.Names}}", rows)

// formatHelp is what --format says of itself, in every command that prints a list.
const formatHelp = "`json` (one object in each line), a Go template such as '{{.ID}}', or 'table TEMPLATE'"

// printFormatted prints rows in a format that the user chose: "json" is an object a line, "table TEMPLATE" a table, any
// other a template, a line for each row. "" and "table" are the usual one. Templates have docker's functions: json,
// join, lower, split, title, truncate, upper, pad.
func printFormatted[T any](w io.Writer, format, usual string, rows []T) error {
	return printRows(w, format, usual, true, rows)
}

// printRows is printFormatted, with a table's header or without.
func printRows[T any](w io.Writer, format, usual string, heading bool, rows []T) (err error) {
	// A table is written a cell at a time, ten thousand of them for a thousand images.
	buffered := bufio.NewWriter(w)
	defer func() { err = errors.Join(err, buffered.Flush()) }()
	w = buffered
	if format = cmp.Or(format, usual); format == "table" {
		format = usual
	}
	if format == "json" {
		encoder := newEncoder(w)
		for _, row := range rows {
			if err := encoder.Encode(row); err != nil {
				return err
			}
		}
		return nil
	}
	text, isTable := strings.CutPrefix(format, "table ")
	text = unescape(text)
	tmpl, err := parseTemplate(text)
	if err != nil {
		return err
	}
	if isTable {
		table := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) // as docker's
		defer table.Flush()
		w = table
		if heading {
			// Of a header only the fields are to be changed, not what a template makes of them.
			if err := line(w, template.Must(tmpl.Clone()).Funcs(templates.HeaderFunctions), headerOf(reflect.TypeFor[T]())); err != nil {
				return err
			}
		}
	}
	for _, row := range rows {
		if err := line(w, tmpl, printable(row)); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		return namesField[T](tmpl)
	}
	return nil
}

// namesField is an error if a template names a field that rows do not have: also where there is no row, as with docker. Other
// errors may be the empty row's: there is nothing to cut off its texts.
func namesField[T any](tmpl *template.Template) error {
	var none T
	if err := line(io.Discard, tmpl, none); err != nil && strings.Contains(err.Error(), "can't evaluate field") {
		return err
	}
	return nil
}

// printInspected prints what docker's inspect commands print: all values as one JSON array, or with a format each on a
// line, by a template or as "json". Templates may use the names of the Go fields and those of the JSON.
func printInspected[T any](w io.Writer, format string, values []T) error {
	if format == "" {
		encoder := newEncoder(w)
		encoder.SetIndent("", "    ")
		return encoder.Encode(append([]T{}, values...)) // [] and not null
	}
	if format == "json" {
		return printFormatted(w, "json", "", values)
	}
	tmpl, err := parseTemplate(unescape(format))
	if err != nil {
		return err
	}
	for _, value := range values {
		var out strings.Builder
		if err := line(&out, tmpl, value); err != nil {
			var byName any
			raw, jsonErr := json.Marshal(value)
			if jsonErr == nil {
				decoder := json.NewDecoder(bytes.NewReader(raw))
				decoder.UseNumber() // a size is not 1.4784049e+07
				jsonErr = decoder.Decode(&byName)
			}
			out.Reset()
			if jsonErr != nil || line(&out, tmpl.Option("missingkey=error"), byName) != nil {
				return err
			}
		}
		if _, err := io.WriteString(w, out.String()); err != nil {
			return err
		}
	}
	return nil
}

// unescape reads the tabs and newlines that shells leave as they were typed.
func unescape(format string) string {
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
}

func parseTemplate(text string) (*template.Template, error) {
	tmpl, err := templates.Parse(text)
	if err != nil {
		return nil, advice.Add(fmt.Errorf("--format %q: %w", text, err), "templates are those of https://pkg.go.dev/text/template")
	}
	tmpl.Funcs(template.FuncMap{"printable": printableText, "json": jsonText})
	cleanValues(tmpl.Tree, tmpl.Root)
	return tmpl, nil
}

// cleanValues has a template print each value by way of printable, as html/template does with what it escapes. What the
// user wrote in the template itself, colours too, stays.
func cleanValues(tree *parse.Tree, list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, node := range list.Nodes {
		switch n := node.(type) {
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				printable := parse.NewIdentifier("printable").SetTree(tree).SetPos(n.Pos)
				n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{printable}})
			}
		case *parse.IfNode:
			cleanValues(tree, n.List)
			cleanValues(tree, n.ElseList)
		case *parse.RangeNode:
			cleanValues(tree, n.List)
			cleanValues(tree, n.ElseList)
		case *parse.WithNode:
			cleanValues(tree, n.List)
			cleanValues(tree, n.ElseList)
		}
	}
}

func printableText(value any) string {
	if value == nil {
		return "<no value>" // as templates say it
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && !v.IsNil() {
		value = v.Elem().Interface()
	}
	return advice.Printable(fmt.Sprint(value))
}

// jsonText is docker's function json.
func jsonText(value any) (string, error) {
	var out strings.Builder
	err := newEncoder(&out).Encode(value)
	return strings.TrimSpace(out.String()), err
}

// newEncoder writes JSON that a terminal may show. encoding/json spells only the characters below the blank; others, such as
// U+009B, which begins what a terminal obeys, or U+202E, which turns the rest of a line around, can only be in strings.
func newEncoder(w io.Writer) *json.Encoder {
	encoder := json.NewEncoder(jsonWriter{w})
	encoder.SetEscapeHTML(false)
	return encoder
}

type jsonWriter struct{ io.Writer }

func (w jsonWriter) Write(p []byte) (int, error) {
	var out []byte
	for _, r := range string(p) { // a whole value
		if r == '\n' || unicode.IsPrint(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	if _, err := w.Writer.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func line(w io.Writer, tmpl *template.Template, data any) error {
	var out strings.Builder
	if err := tmpl.Execute(&out, data); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}

// A header stands in the place of a row, above the rows.
type header map[string]string

// Label is for rows that have a method of this name.
func (header) Label(name string) string { return strings.ToUpper(name) }

func headerOf(row reflect.Type) header {
	h := header{}
	for i := range row.NumField() {
		f := row.Field(i)
		h[f.Name] = cmp.Or(f.Tag.Get("header"), strings.ToUpper(f.Name))
	}
	return h
}

// printable is a copy of row, a struct, in which no text can move the cursor or change the terminal: names, commands and
// labels come from images, and from anybody.
func printable[T any](row T) T {
	v := reflect.ValueOf(&row).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String && f.CanSet() {
			f.SetString(strings.Map(func(r rune) rune {
				if unicode.IsPrint(r) {
					return r
				}
				return '?'
			}, f.String()))
		}
	}
	return row
}
