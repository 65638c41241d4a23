//go:build linux

package learn

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
	"gocker/step01-pull/shared/tree"
	"gocker/step02-untar/attack"
)

// codeName is what has the same name in all languages: a system call, a constant, something in quotes, a number, a file.
var codeName = regexp.MustCompile(`\w+\(\d\)|[A-Z][A-Z_0-9]{2,}|"[^" ]+"|\d[\d:.]*\d|\w+[._/][\w._/]*\w`)

// sameCode compares the names of code in a text and in its translation. Names that are words, too, may be written in capitals.
func sameCode(t *testing.T, what, english, translated string) {
	t.Helper()
	translated = strings.ReplaceAll(translated, "docs/zh/", "docs/")
	for _, name := range codeName.FindAllString(english, -1) {
		if !strings.Contains(translated, name) {
			t.Errorf("%s: %q is missing in %q", what, name, translated)
		}
	}
	for _, name := range codeName.FindAllString(translated, -1) {
		if !strings.Contains(strings.ToLower(english), strings.ToLower(name)) {
			t.Errorf("%s: %q is not in %q", what, name, english)
		}
	}
}

func TestTextsSayTheSameInChinese(t *testing.T) {
	anchors := func(page string) []string {
		raw, err := os.ReadFile("../../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		return headings(string(raw))
	}
	for step := range steps() {
		english, err := readTexts("en", step)
		translated, zhErr := readTexts("zh", step)
		if err != nil || zhErr != nil || len(english) != len(translated) {
			t.Fatalf("step %d: %d texts and %d, %v, %v", step, len(english), len(translated), err, zhErr)
		}
		for name, en := range english {
			zh := translated[name]
			if (zh.asks == "") != (en.asks == "") || zh.why == "" {
				t.Errorf("step %d: %s is %+v, and in English %+v", step, name, zh, en)
			}
			sameCode(t, name, en.asks+" "+en.why, zh.asks+" "+zh.why)
			page, heading, _ := strings.Cut(en.page, "#")
			zhPage, zhHeading, _ := strings.Cut(zh.page, "#")
			i, j := slices.Index(anchors(page), heading), slices.Index(anchors("zh/"+page), zhHeading)
			if zhPage != page || i != j || i < 0 {
				t.Errorf("step %d: %s leads to %s, heading %d, and in English to %s, heading %d", step, name, zh.page, j, en.page, i)
			}
		}
	}
}

func TestHintsSayTheSameInChinese(t *testing.T) {
	quoted := regexp.MustCompile(`“([^”]+)”`)
	for step := range steps() {
		page, err := os.ReadFile(strings.Replace(pageOf(t, step), "docs/", "docs/zh/", 1))
		if err != nil {
			t.Fatal(err)
		}
		titles := headings(string(page))
		for depth := 1; depth <= Depths; depth++ {
			t.Setenv("LC_ALL", "C")
			english, err := Hint(step, depth)
			t.Setenv("LC_ALL", "zh_CN.UTF-8")
			translated, zhErr := Hint(step, depth)
			if err != nil || zhErr != nil || strings.Count(english, "\n") != strings.Count(translated, "\n") {
				t.Errorf("Hint(%d, %d) = %q, %v; in English %q, %v", step, depth, translated, zhErr, english, err)
			}
			sameCode(t, filepath.Base(pageOf(t, step)), english, translated)
			for _, m := range quoted.FindAllStringSubmatch(translated, -1) {
				anchor := headings("## " + m[1])[0]
				if !slices.ContainsFunc(titles, func(title string) bool { return strings.HasPrefix(title, anchor) }) {
					t.Errorf("the first hint for step %d names %q; the page has %q", step, m[1], titles)
				}
			}
		}
	}
}

func TestWordsAreAllTranslated(t *testing.T) {
	want := append(said(t), tree.Type, tree.Mode, tree.Owner, tree.MTime, tree.Content, tree.Xattrs, tree.Same, tree.Links)
	attacks, err := attack.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attacks {
		if plainOrGzip(a.Archive) && a.Kind != attack.OwnName && a.Kind != attack.Impossible { // those that step 2 tries
			want = append(want, a.What)
		}
	}
	code, err := filepath.Glob("skeleton/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range code {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range comment.FindAllSubmatch(raw, -1) {
			want = append(want, string(m[1]))
		}
	}
	verb := regexp.MustCompile(`%[.\d]*\w`)
	words := readWords("zh")
	raw, err := files.ReadFile("texts/zh/words.txt")
	if lines := bytes.Count(raw, []byte("\n")); err != nil || lines != 2*len(words) {
		t.Errorf("words.txt has %d lines for %d words, %v: is one there twice?", lines, len(words), err)
	}
	for _, english := range want {
		translated := words[english]
		if !slices.Equal(verb.FindAllString(english, -1), verb.FindAllString(translated, -1)) || translated == "" {
			t.Errorf("%q is %q", english, translated)
		}
		if english != "FAIL  %s" {
			sameCode(t, english, english, translated)
		}
	}
	for english := range words {
		if !slices.Contains(want, english) {
			t.Errorf("nothing says %q", english)
		}
	}
}

// said are the formats that this package's code gives to say.
func said(t *testing.T) (formats []string) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, isCall := n.(*ast.CallExpr)
			if !isCall {
				return true
			}
			if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "say" {
				return true
			}
			if format, ok := call.Args[0].(*ast.BasicLit); ok {
				unquoted, err := strconv.Unquote(format.Value)
				if err != nil {
					t.Fatal(err)
				}
				formats = append(formats, unquoted)
			}
			return true
		})
	}
	return formats
}

func TestALearnerIsToldInTheirLanguage(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tt := range []struct{ lcAll, lcMessages, lang, want string }{
		{"", "", "zh_CN.UTF-8", "失败  文件有自己的内容\n      要求      P untar"},
		{"", "zh_TW.UTF-8", "en_US.UTF-8", "      参见      docs/zh/step02-untar.md#"},
		{"C.UTF-8", "zh_CN.UTF-8", "zh_CN.UTF-8", "FAIL  a file has its content\n      asked     P untar"},
		{"", "", "xx", "      read      docs/step02-untar.md#"},
	} {
		t.Setenv("LC_ALL", tt.lcAll)
		t.Setenv("LC_MESSAGES", tt.lcMessages)
		t.Setenv("LANG", tt.lang)
		report, err := Check(t.Context(), 2, []string{"true"}, false)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if report.Print(&out, "again"); !strings.Contains(out.String(), tt.want) {
			t.Errorf("LC_ALL=%s LC_MESSAGES=%s LANG=%s:\n%s\nwant %q", tt.lcAll, tt.lcMessages, tt.lang, out.String(), tt.want)
		}
	}
}
