package clients

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// running is a ledger run, perhaps in a terminal of its own.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser // what is typed
	term *os.File       // nil: it has no terminal
	done chan struct{}

	mu   sync.Mutex
	said strings.Builder
}

// Write notes what is said, by ledger run or its program.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(p)
}

func (r *running) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// start begins a ledger run with these arguments; kind is that of this binary when it is the program.
func start(t *testing.T, l *ledgertest.Client, key, kind string, terminal bool, args ...string) *running {
	t.Helper()
	return begin(t, l, key, kind, terminal, ledgertest.Command("ledger", append([]string{"run"}, args...)...))
}

// begin is start with any command.
func begin(t *testing.T, l *ledgertest.Client, key, kind string, terminal bool, cmd *exec.Cmd) *running {
	t.Helper()
	cmd.Env = append(os.Environ(), "LEDGER_SERVER="+l.Commands, "LEDGER_LICENSE_KEY="+key, asProgram+"="+kind)
	r := &running{t: t, cmd: cmd, done: make(chan struct{})}
	var err error
	if terminal {
		if r.term, err = pty.Start(cmd); err != nil {
			t.Fatal(err)
		}
		r.in = r.term
		go io.Copy(r, r.term)
	} else {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // away from the terminal of whoever runs the tests
		cmd.Stdout = r
		if cmd.Stderr == nil {
			cmd.Stderr = r
		}
		if r.in, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-r.done
		r.in.Close()
		if t.Failed() {
			t.Logf("%v said:\n%s", cmd.Args, r.output())
		}
	})
	return r
}

// self is this binary as the program to run.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (r *running) await(text string) {
	r.t.Helper()
	await(r.t, fmt.Sprintf("saying %q", text), func() bool { return strings.Contains(r.output(), text) })
}

// program returns the process id of the program.
func (r *running) program() int {
	r.t.Helper()
	r.await("ready pid")
	pid := 0
	fmt.Sscan(regexp.MustCompile(`ready pid (\d+)`).FindStringSubmatch(r.output())[1], &pid)
	return pid
}

// exits waits for the end and checks the code.
func (r *running) exits(code int) {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(ledgertest.Patience):
		r.t.Fatalf("goes on, want exit code %d", code)
	}
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		r.t.Errorf("exit code %d, want %d", got, code)
	}
}

// hears checks that each of these signals arrived at the program exactly once. Signals keep no order, so that the program is
// told to end after all of them were heard, and what it said until then counts.
func (r *running) hears(code int, signals ...syscall.Signal) {
	r.t.Helper()
	for _, s := range signals {
		r.await(fmt.Sprintf("heard %d.", s))
	}
	fmt.Fprintf(r.in, "exit %d\n", code)
	r.exits(code)
	r.await(fmt.Sprintf("read exit %d.", code))
	for _, s := range signals {
		if n := strings.Count(r.output(), fmt.Sprintf("heard %d.", s)); n != 1 {
			r.t.Errorf("signal %d arrived %d times", s, n)
		}
	}
}

func inUse(t *testing.T, l *ledgertest.Client) string {
	t.Helper()
	return l.Get(t, "/api/v1/tenants/acme/seats", "").At("in_use")
}

func TestRunInATerminal(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 1, 60)
	r := start(t, l, key, "polite", true, "--", self(t))
	r.program()
	await(t, "in use", func() bool { return inUse(t, l) == "1" })
	if lease := regexp.MustCompile(`lease (lse_\w+) fence (\d+)\.`).FindString(r.output()); lease == "" {
		t.Error("the program does not know its lease")
	}
	fmt.Fprintln(r.in, "hello")
	r.await("read hello.")
	// What is typed goes to both of us from the terminal; what is sent to us alone is forwarded.
	fmt.Fprint(r.in, "\x03")
	r.await("heard 2.")
	fmt.Fprint(r.in, "\x1c")
	r.await("heard 3.")
	if err := pty.Setsize(r.term, &pty.Winsize{Rows: 50, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		r.cmd.Process.Signal(s)
	}
	r.hears(7, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	await(t, "free", func() bool { return inUse(t, l) == "0" })

	r = start(t, l, key, "polite", true, "--", self(t))
	r.program()
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.exits(0)
	r.await("heard 15.")

	// As a job of a shell: Ctrl-Z stops both, the shell goes on, and fg brings both back.
	r = start(t, l, key, "polite", true, "--", self(t))
	r.program()
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.exits(0)
	shell := begin(t, l, key, "polite", true, exec.Command("sh", "-m", "-c", `"$0" run -- "$1"; echo "shell: $?."; read line; fg; echo "at last $?."`,
		ledgertest.Command("ledger").Path, self(t)))
	shell.program()
	fmt.Fprint(shell.in, "\x1a")
	shell.await("shell: 148.") // 128 + SIGTSTP
	fmt.Fprintln(shell.in)
	fmt.Fprintln(shell.in, "hello again")
	shell.await("read hello again.")
	fmt.Fprint(shell.in, "\x03")
	shell.await("heard 2.")
	fmt.Fprintln(shell.in, "exit 6")
	shell.await("at last 6.")
	if n := strings.Count(shell.output(), "heard 2."); n != 1 {
		t.Errorf("Ctrl-C arrived %d times after fg", n)
	}
}

func TestRunWithoutATerminal(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 1, 60)
	r := start(t, l, key, "stubborn", false, "--", self(t))
	r.program()
	all := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH}
	for _, s := range all[:3] {
		r.cmd.Process.Signal(s)
	}
	for _, s := range all[3:] {
		syscall.Kill(-r.cmd.Process.Pid, s) // to the whole group, as timeout(1) does
	}
	r.hears(9, all...)
	await(t, "free", func() bool { return inUse(t, l) == "0" })
}

func TestRunExitCodes(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 1, 60)
	shut := &ledgertest.Client{Commands: "http://" + ledgertest.FreeAddr(t)}
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("no program"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	unreachable := start(t, shut, key, "", false, "--", "true") // takes a while
	for _, c := range []struct {
		key  string
		args []string
		code int
		says string
	}{
		{key, []string{"--", "sh", "-c", "exit 0"}, 0, ""},
		{key, []string{"sh", "-c", "exit 3"}, 3, ""},
		{key, []string{"--", "sh", "-c", "kill -9 $$"}, 137, ""},
		{key, []string{"--", "sh", "-c", "kill -15 $$"}, 143, ""},
		{key, []string{"--", "/no/such/program"}, 127, "no such file"},
		{key, []string{"--", "no-such-program"}, 127, "not found"},
		{key, []string{"--", file("text", 0o600)}, 126, "permission denied"},
		{key, []string{"--", file("odd", 0o700)}, 126, "exec format error"},
		{"lk_acme_mistyped", []string{"--", "true"}, 73, "(unauthorized)\nCopy it again"},
		{"", []string{"--", "true"}, 1, "Set LEDGER_LICENSE_KEY"},
	} {
		r := start(t, l, c.key, "", false, c.args...)
		r.exits(c.code)
		if out := r.output(); !strings.Contains(out, c.says) || (c.says == "" && out != "") {
			t.Errorf("%v says %q, want %q", c.args, out, c.says)
		}
	}
	unreachable.exits(72)
	unreachable.await("connection refused; gave up after 10s (unreachable)\nIs it running?")
}

func TestRunWaits(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 1, 60)
	first := start(t, l, key, "polite", true, "--", self(t))
	first.program()

	denied := start(t, l, key, "", false, "--", "true")
	denied.exits(70)
	denied.await("1 of 1 seats are in use (no_seat_available)")
	impatient := start(t, l, key, "", false, "--wait", "1s", "--", "true")
	impatient.exits(70)
	gone := start(t, l, key, "", true, "--wait", "5m", "--", "true")
	gone.await("waiting up to 5m0s for a seat: number 1 of 1 in the queue")
	behind := start(t, l, key, "", true, "--wait", "5m", "--", "true")
	behind.await("waiting up to 5m0s for a seat: number 2 of 2 in the queue")
	fmt.Fprint(gone.in, "\x03")
	gone.exits(130)
	behind.await("ledger: number 1 of 1 in the queue") // whoever was before has left
	fmt.Fprint(behind.in, "\x03")
	behind.exits(130)

	second := start(t, l, key, "polite", true, "--wait", "5m", "--", self(t))
	second.await("waiting up to 5m0s")
	fmt.Fprintln(first.in, "exit 0")
	first.exits(0)
	second.program()
	fmt.Fprintln(second.in, "exit 4")
	second.exits(4)
}

func TestRunLosesItsSeat(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 3, 3)
	leaseOf := func(r *running) string {
		r.program()
		return regexp.MustCompile(`lse_\w+`).FindString(r.output())
	}
	warned := start(t, l, key, "polite", true, "--", self(t))
	polite := start(t, l, key, "polite", true, "--on-lost", "stop", "--", self(t))
	stubborn := start(t, l, key, "stubborn", false, "--on-lost", "stop", "--grace", "500ms", "--", self(t))
	for _, r := range []*running{warned, polite, stubborn} {
		l.Must(t, 200, "POST", "/api/v1/licenses/release", key, ledgertest.Lease(leaseOf(r)))
	}
	polite.exits(71)
	polite.await("(lease_released); the program has 30s to end")
	polite.await("heard 15.")
	stubborn.exits(71)
	stubborn.await("heard 15.")
	stubborn.await("did not end in 500ms, and is killed")
	stubborn.await("ledger: the seat was lost: ")

	// One that is stopped, as a frozen machine is, finds out when it goes on.
	frozen := start(t, l, key, "polite", false, "--on-lost", "stop", "--", self(t))
	lease := leaseOf(frozen)
	frozen.cmd.Process.Signal(syscall.SIGSTOP)
	await(t, "expired", func() bool {
		for _, item := range l.Get(t, "/api/v1/tenants/acme/seats?state=expired", "").Items() {
			if item["id"] == lease {
				return true
			}
		}
		return false
	})
	frozen.cmd.Process.Signal(syscall.SIGCONT)
	frozen.exits(71)
	frozen.await("(lease_expired)")

	warned.await("(lease_released); the program goes on without a seat")
	warned.await("there is a seat again")
	fmt.Fprintln(warned.in, "exit 5")
	warned.exits(5)
	if strings.Contains(warned.output(), "heard") {
		t.Error("the program was told to stop")
	}
	await(t, "free", func() bool { return inUse(t, l) == "0" })
}

// What it says about a loss may go to a pipe that nobody reads any more.
func TestRunWithoutAnybodyListening(t *testing.T) {
	t.Parallel()
	_, l := ledgertest.Up(t, t.TempDir())
	_, key := l.License(t, "acme", 1, 2)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := ledgertest.Command("ledger", "run", "--", self(t))
	cmd.Stderr = write
	r := begin(t, l, key, "polite", false, cmd)
	read.Close()
	write.Close()
	r.program()
	lease := regexp.MustCompile(`lse_\w+`).FindString(r.output())
	l.Must(t, 200, "POST", "/api/v1/licenses/release", key, ledgertest.Lease(lease))
	await(t, "another seat", func() bool { // after the warning
		for _, item := range l.Get(t, "/api/v1/tenants/acme/seats?state=active", "").Items() {
			return item["id"] != lease
		}
		return false
	})
	fmt.Fprintln(r.in, "exit 5")
	r.exits(5)
}
