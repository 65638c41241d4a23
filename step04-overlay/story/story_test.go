package story_test

import (
	"os/exec"
	"strings"
	"testing"
	"unicode"

	"gocker/step04-overlay/story"
)

var words = []string{
	"plain", "", "two words", "it's", `"`, "a\nb", "\n", "$(echo hacked)", "`echo hacked`", "$HOME", `\n`, `\`, "-n", "*", "~", "#",
	"a=b", "é", "\x1b[31mred", "\xff\xfe", "\t", "\u009b31m", "'; echo hacked; '", "!", "\ufffd", "a\x7f",
}

func TestAShellReadsQuotedWordsAsTheyWere(t *testing.T) {
	for _, word := range words {
		out, err := exec.Command("sh", "-c", "printf '%s|' "+story.Quote(word, word)).Output()
		if want := word + "|" + word + "|"; err != nil || string(out) != want {
			t.Errorf("sh has %q, %v for Quote(%q); want %q", out, err, word, want)
		}
	}
	out, err := exec.Command("sh", "-c", "root='/a b'; printf '%s|' "+story.Quote(story.Root, story.Root+"/dev", story.Root+"/$x")).Output()
	if want := "/a b|/a b/dev|/a b/$x|"; err != nil || string(out) != want {
		t.Errorf("sh has %q, %v for words below the root; want %q", out, err, want)
	}
}

func TestWhatIsWrittenToAFileIsTheValue(t *testing.T) {
	for _, word := range words {
		var command string
		tell := story.Story(func(l story.Line) { command = l.Command })
		file := t.TempDir() + "/it's a file"
		tell.Write(story.Host, "", file, word)
		out, err := exec.Command("sh", "-c", command+"; cat "+story.Quote(file)).Output()
		if want := word + "\n"; err != nil || string(out) != want {
			t.Errorf("%s writes %q, %v; want %q", command, out, err, want)
		}
	}
}

func TestNoNameSpeaksToTheTerminal(t *testing.T) {
	var out strings.Builder
	story.Print(&out).Run(story.Host, "why", words...)
	for _, r := range out.String() {
		if unicode.IsControl(r) && r != '\n' || r == unicode.ReplacementChar && !strings.Contains(out.String(), "\ufffd") {
			t.Errorf("the story has %q", r)
		}
	}
}

func TestTheNilStoryIsFree(t *testing.T) {
	var none story.Story
	if n := testing.AllocsPerRun(100, func() { none.Run(story.Host, "why", "a", "b"); none.Write(story.Host, "why", "file", 1) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
