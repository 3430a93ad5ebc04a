package ledgertest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bin is where Main builds the programs.
var bin string

// Main builds the programs, or only those that are named, runs the tests of a package and ends the process: what a TestMain
// does.
func Main(m *testing.M, programs ...string) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ledger-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = dir
		if len(programs) == 0 {
			programs = []string{"ledger", "commandsvc", "projector", "querysvc", "nats-server"}
		}
		build := exec.Command("go", "build", "-o", dir+"/")
		for _, name := range programs {
			from := "github.com/coditect-ai/license-ledger/cmd/" + name
			if name == "nats-server" {
				from = "github.com/nats-io/nats-server/v2"
			}
			build.Args = append(build.Args, from)
		}
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// Command returns a command that runs one of the programs, not yet started.
func Command(name string, args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(bin, name), args...)
}

// Patience bounds a wait that would hang; nothing waits for it to pass.
const Patience = 60 * time.Second

// Process is one program under test.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	output *buffer
	done   chan struct{}
}

// Launch starts one of the programs, or nats-server, with extra environment; it is killed when the test ends.
func Launch(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: Command(name, args...), output: &buffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.Env = append(append(os.Environ(), "LEDGER_LEASE_SECONDS_MIN=1"), env...) // tests wait for leases to run out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.output)
		}
	})
	return p
}

// Kill ends the program as a power cut would, as far as it is concerned.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the program to end and returns its exit code.
func (p *Process) Stop() int {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.t.Fatalf("did not stop:\n%s", p.output)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal, such as SIGSTOP; to a process that has ended it does nothing.
func (p *Process) Signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode returns the exit code of a program that has ended.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Output returns what the program has printed so far.
func (p *Process) Output() string { return p.output.String() }

// AwaitReady returns when base answers /readyz with 200.
func (p *Process) AwaitReady(base string) {
	p.t.Helper()
	last := "no answer"
	p.Await("ready", func() bool {
		response, err := http.Get(base + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		last = string(body)
		return response.StatusCode == http.StatusOK
	}, func() string { return last })
}

// Await polls until condition holds, the program ends, or Patience does.
func (p *Process) Await(what string, condition func() bool, last func() string) {
	p.t.Helper()
	deadline := time.Now().Add(Patience)
	for !condition() {
		select {
		case <-p.done:
			p.t.Fatalf("ended before it was %s:\n%s", what, p.output)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not %s after %v: %s\n%s", what, Patience, last(), p.output)
		}
	}
}

// buffer collects output.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// FreeAddr returns an address that nobody uses right now. Its port is below those that the system gives to whoever dials
// out: so it stays free for a program that is down for a while.
func FreeAddr(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000))); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal(err)
	return ""
}
