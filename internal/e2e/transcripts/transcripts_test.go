package transcripts

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

var update = flag.Bool("update", false, "write into the docs what the commands print")

func TestMain(m *testing.M) { ledgertest.Main(m, "ledger") }

func TestTranscripts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"CLI.md", "AUDIT.md", "FORGETTING.md"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join("..", "..", "..", "docs", name)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := page{name: name, shell: newShell(t), lines: strings.Split(string(text), "\n"), real: map[string]string{}, shown: map[string]string{}}
			p.run(t)
			if after := strings.Join(p.lines, "\n"); *update && after != string(text) {
				if err := os.WriteFile(file, []byte(after), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// page is a page of the docs whose transcripts are run.
type page struct {
	name  string
	shell *shell
	lines []string
	real  map[string]string // the ids of the ledger by those of the page
	shown map[string]string // the reverse
	keys  []string          // as the page has them: those that were named, with no beginning to tell them by
}

// run runs the page from top to bottom, and puts into lines what it is to be.
func (p *page) run(t *testing.T) {
	t.Helper()
	byHand := false
	for i := 0; i < len(p.lines); i++ {
		switch line := p.lines[i]; {
		case line == "<!-- run":
			end := i + slices.Index(p.lines[i:], "-->")
			if out, code := p.shell.run(t, strings.Join(p.lines[i+1:end], "\n")); code != 0 {
				t.Fatalf("%s:%d: exit code %d\n%s", p.name, i+1, code, out)
			}
			i = end
			p.readNames(t)
		case strings.HasPrefix(line, "<!-- by hand:"):
			byHand = true
		case strings.HasPrefix(line, "```"):
			end := i + 1 + slices.Index(p.lines[i+1:], "```")
			if strings.HasPrefix(p.lines[i+1], "$ ") && !byHand {
				block := p.transcript(t, i+1, p.lines[i+1:end])
				p.lines = slices.Replace(p.lines, i+1, end, block...)
				end = i + 1 + len(block)
			}
			i, byHand = end, false
		}
	}
}

// transcript runs the commands of a block and returns the block as it is to be. It begins at the line first.
func (p *page) transcript(t *testing.T, first int, block []string) (is []string) {
	t.Helper()
	for at := 0; at < len(block); {
		command := strings.TrimPrefix(block[at], "$ ")
		end := at + 1
		for end < len(block) && !strings.HasPrefix(block[end], "$ ") {
			end++
		}
		want := block[at+1 : end]
		got, ok := p.step(t, command, want)
		if !ok && !*update {
			t.Errorf("%s:%d: %s\nprints\n%s\nand not\n%s\nIf that is right: go test ./internal/e2e/transcripts -update",
				p.name, first+at+1, command, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		is = append(append(is, block[at]), got...)
		at = end
	}
	return is
}

// reading are the commands that may be given again until they show what was just done.
var reading = regexp.MustCompile(`^ledger (status|replay|export|projection list|(tenant|license|key|member) (list|show|queue))\b`)

// step runs a command. It returns what is to stand below it, and whether that stands there already.
func (p *page) step(t *testing.T, command string, want []string) (is []string, ok bool) {
	t.Helper()
	script := ids.ReplaceAllStringFunc(command, func(shown string) string {
		if id, ok := p.real[shown]; ok {
			return id
		}
		t.Errorf("%s: %s: nothing above prints %s", p.name, command, shown)
		return shown
	})
	for _, key := range p.keys {
		script = strings.ReplaceAll(script, key, p.real[key])
	}
	if command == "ledger up" {
		script = "up && cat up.log"
	}
	for until := time.Now().Add(5 * time.Second); ; {
		out, code := p.shell.run(t, script)
		for _, key := range p.keys {
			out = strings.ReplaceAll(out, p.real[key], key)
		}
		got := strings.Split(strings.TrimRight(p.shell.shown(out), "\n"), "\n")
		if out == "" {
			got = nil
		}
		if code != 0 {
			got = append(got, fmt.Sprintf("# exit code %d", code))
		}
		// An empty line sets a command apart from the next.
		for n := len(want); n > 0 && want[n-1] == ""; n-- {
			got = append(got, "")
		}
		if p.match(want, got) {
			return want, true
		}
		if !reading.MatchString(command) || time.Now().After(until) {
			for i := range got {
				got[i] = ids.ReplaceAllStringFunc(got[i], func(id string) string {
					if shown, ok := p.shown[id]; ok {
						return shown
					}
					p.bind(id, id)
					return id
				})
			}
			return got, false
		}
	}
}

// match reports whether got is what the page shows, and notes which ids stand for which.
func (p *page) match(want, got []string) bool {
	if len(want) == 0 || len(got) == 0 {
		return len(want) == len(got)
	}
	if want[0] == "…" {
		return p.match(want[1:], got) || p.match(want, got[1:]) || len(want) == 1
	}
	if shape(want[0]) != shape(got[0]) {
		return false
	}
	shown, real := ids.FindAllString(want[0], -1), ids.FindAllString(got[0], -1)
	for i, id := range shown {
		if known, ok := p.real[id]; ok && known != real[i] {
			return false
		}
	}
	if !p.match(want[1:], got[1:]) {
		return false
	}
	for i, id := range shown {
		p.bind(id, real[i])
	}
	return true
}

func (p *page) bind(shown, real string) { p.real[shown], p.shown[real] = real, shown }

// readNames reads what the function name of the shell wrote.
func (p *page) readNames(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.shell.dir, "names"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		shown, real, _ := strings.Cut(strings.TrimSpace(line), " ")
		if real == "" {
			t.Fatalf("%s: there is nothing to name %s", p.name, shown)
		}
		p.bind(shown, real)
		if !ids.MatchString(shown) && !slices.Contains(p.keys, shown) {
			p.keys = append(p.keys, shown)
		}
	}
}

var (
	ids  = regexp.MustCompile(`\b(lic|lse|mem|u|m|p)_[0-9a-z]{16}\b`)
	keys = regexp.MustCompile(`\b((?:lk|tk)_[a-z0-9-]+_[\w-]{12})_[\w-]+`)
)

// different is what is different each time, and what stands for it.
var different = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\b(lk|tk)_[a-z0-9-]+_[\w-]{12}_…`), "${1}_…"},
	{ids, "${1}_…"},
	{regexp.MustCompile(`(key:|"id":"|The key |\bkey\.[a-z]+ +)[\w-]{12}`), "${1}…"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`[\w-]{43}`), "HEAD"},
	{regexp.MustCompile(`retry_after_seconds=\d+`), "retry_after_seconds=N"},
	{regexp.MustCompile(`\b\d+-[0-9a-z]{8}\b`), "PROCESS"},
	{regexp.MustCompile(`\b(after|about|commit) [0-9hms.]+\b`), "$1 N"},
	{regexp.MustCompile(`, (less than a minute|about \d+ min)`), ", N min"},
	{regexp.MustCompile(`^([a-z_]+ +0 +)\d+( +TIME +)\d+`), "${1}N${2}N"},              // ledger projection list: commits
	{regexp.MustCompile(`^(0 +\d+ +)\d+( +TIME +)\d+( +\d+ +)\d+`), "${1}N${2}N${3}N"}, // ledger restore: commits and names
	{regexp.MustCompile(`  +`), "  "},                                                  // a column is as wide as what is in it
}

// fixed are the times that a page names itself: days.
var fixed = regexp.MustCompile(`(\d{4}-\d\d-\d\d) 00:00:00`)

// shape is a line without what is different each time.
func shape(line string) string {
	line = fixed.ReplaceAllString(line, "$1")
	for _, d := range different {
		line = d.what.ReplaceAllString(line, d.as)
	}
	return strings.TrimRight(line, " ")
}

// shell is a bash in a folder of its own.
type shell struct {
	dir, addr string
	in        *os.File
	codes     *bufio.Reader
	deadline  func(time.Time) error
}

// preamble is known to the commands of a page; see the doc of the package.
const preamble = `
up() { rm -f up.log; ledger up >up.log 2>up.errors & up=$!; until grep -qs "The ledger is up" up.log; do kill -0 $up || { cat up.errors; return 1; }; done; }
down() { kill $up && wait $up; }
id() { grep -o "$1_[A-Za-z0-9_-]*" | head -1; }
name() { echo "$1 $2" >>names; }
`

func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{dir: t.TempDir(), addr: ledgertest.FreeAddr(t)}
	in, inEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outEnd, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.in, s.codes, s.deadline = inEnd, bufio.NewReader(outEnd), outEnd.SetReadDeadline
	bash := exec.Command("bash", "--noprofile", "--norc")
	bash.Dir, bash.Stdin, bash.ExtraFiles = s.dir, in, []*os.File{out}
	bash.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	bash.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C.UTF-8", "LEDGER_ADDR="+s.addr, "LEDGER_SERVER=http://"+s.addr, "LEDGER_DATA=data",
		"PATH="+filepath.Dir(ledgertest.Command("ledger").Path)+":"+os.Getenv("PATH"))
	if err := bash.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	t.Cleanup(func() {
		s.run(t, "[[ -z $up ]] || down")
		syscall.Kill(-bash.Process.Pid, syscall.SIGKILL) // whatever it left in the background
		bash.Wait()
		inEnd.Close()
		outEnd.Close()
	})
	s.run(t, preamble)
	return s
}

// run runs commands and returns what they print, both streams, and the exit code of the last.
func (s *shell) run(t *testing.T, commands string) (out string, code int) {
	t.Helper()
	printed := filepath.Join(s.dir, "printed")
	fmt.Fprintf(s.in, "{ %s\n} >printed 2>&1 </dev/null; code=$?; cp printed last; echo $code >&3\n", commands)
	if err := s.deadline(time.Now().Add(2 * ledgertest.Patience)); err != nil {
		t.Fatal(err)
	}
	_, err := fmt.Fscanln(s.codes, &code)
	text, readErr := os.ReadFile(printed)
	if err != nil || readErr != nil {
		t.Fatalf("%s: %v, %v\n%s", commands, err, readErr, text)
	}
	return string(text), code
}

// hash is that of a license key, in an event.
var hash = regexp.MustCompile(`"hash":"[^"]*"`)

// trailing is what pads the last column of a table.
var trailing = regexp.MustCompile(`(?m) +$`)

// shown is what a page shows of what was printed: the usual address, which needs no flag, and of a key its beginning.
func (s *shell) shown(text string) string {
	const usual = "127.0.0.1:8080"
	text = strings.ReplaceAll(strings.ReplaceAll(text, s.addr, usual), " --server http://"+usual, "")
	text = keys.ReplaceAllString(hash.ReplaceAllString(text, "…"), "${1}_…")
	return trailing.ReplaceAllString(text, "")
}
