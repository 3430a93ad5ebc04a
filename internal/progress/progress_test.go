package progress

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

func TestLinesWhereThereIsNoTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := New(&out, "reading", "commits")
	b.Set(1, 10)
	b.End()
	if out.Len() > 0 {
		t.Errorf("short work says %q", out.String())
	}
	b.began, b.said = time.Now().Add(-20*time.Second), time.Now().Add(-lineEvery)
	b.Set(5, 10)
	b.Set(6, 10)
	if line := regexp.MustCompile(`^reading: 5 of 10 commits \(50 %\), \S+/s, 2\ds left\n$`); !line.MatchString(out.String()) {
		t.Errorf("it says %q", out.String())
	}
}

func TestABarOnATerminal(t *testing.T) {
	t.Parallel()
	person, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	if !IsTerminal(terminal) {
		t.Error("a terminal is none")
	}
	b := New(terminal, "reading", "commits")
	b.Set(5, 10)
	seen := make([]byte, 4096)
	n, err := person.Read(seen)
	if err != nil || !strings.Contains(string(seen[:n]), "reading") {
		t.Errorf("the terminal shows %q, %v", seen[:n], err)
	}
	b.End()
	if file, err := os.CreateTemp(t.TempDir(), ""); err != nil || IsTerminal(file) {
		t.Errorf("a file is a terminal, or %v", err)
	}
}
