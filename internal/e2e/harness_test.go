package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bin is where TestMain builds the programs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ledger-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = dir
		build := exec.Command("go", "build", "-o", dir+"/",
			"../../cmd/ledger", "../../cmd/commandsvc", "../../cmd/projector", "../../cmd/querysvc", "github.com/nats-io/nats-server/v2")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds a wait that would hang; nothing waits for it to pass.
const patience = 60 * time.Second

// process is one program under test.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	output *buffer
	done   chan struct{}
}

// launch starts a program with extra environment; it is killed when the test ends.
func launch(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(filepath.Join(bin, name), args...), output: &buffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.Env = append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.output)
		}
	})
	return p
}

// kill ends the program as a power cut would, as far as it is concerned.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop asks the program to end and returns its exit code.
func (p *process) stop() int {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("did not stop:\n%s", p.output)
	}
	return p.cmd.ProcessState.ExitCode()
}

// awaitReady returns when base answers /readyz with 200.
func (p *process) awaitReady(base string) {
	p.t.Helper()
	last := "no answer"
	p.await("ready", func() bool {
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

// await polls until condition holds, the program ends, or patience does.
func (p *process) await(what string, condition func() bool, last func() string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		select {
		case <-p.done:
			p.t.Fatalf("ended before it was %s:\n%s", what, p.output)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not %s after %v: %s\n%s", what, patience, last(), p.output)
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

// freeAddr returns an address that nobody uses right now.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ledger is a client of the API.
type ledger struct {
	commands, queries string // base addresses
	operator          string
}

// up starts the all-in-one process on a data folder and waits until it is ready.
func up(t testing.TB, data string, args ...string) (*process, *ledger) {
	t.Helper()
	addr := freeAddr(t)
	p := launch(t, nil, "ledger", append([]string{"up", "--addr", addr, "--data", data}, args...)...)
	base := "http://" + addr
	p.awaitReady(base)
	key, err := os.ReadFile(filepath.Join(data, "operator.key"))
	if err != nil {
		t.Fatal(err)
	}
	return p, &ledger{commands: base, queries: base, operator: strings.TrimSpace(string(key))}
}

// answer is a reply of the API.
type answer struct {
	status   int
	position string
	body     map[string]any
}

func (a answer) code() string { return fmt.Sprint(a.body["code"]) }

// at returns the value at a path such as "lease.id", as text.
func (a answer) at(path string) string {
	var value any = a.body
	for part := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		value = object[part]
	}
	return fmt.Sprint(value)
}

func (a answer) items() []map[string]any {
	list, _ := a.body["items"].([]any)
	items := make([]map[string]any, len(list))
	for i, item := range list {
		items[i], _ = item.(map[string]any)
	}
	return items
}

// do sends one request. An error means that the outcome is not known.
func (l *ledger) do(ctx context.Context, method, path, key string, body any, headers map[string]string) (answer, error) {
	base := l.commands
	var reader io.Reader
	if method == http.MethodGet {
		base = l.queries
	} else {
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		reader = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, base+path, reader)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, position: response.Header.Get("Ledger-Position")}
	if err := json.NewDecoder(response.Body).Decode(&a.body); err != nil {
		return answer{}, err
	}
	if a.status >= 500 {
		return a, fmt.Errorf("%s %s: %d %v", method, path, a.status, a.body)
	}
	return a, nil
}

// must sends a request that has to be answered with this status.
func (l *ledger) must(t testing.TB, status int, method, path, key string, body any) answer {
	t.Helper()
	a, err := l.do(t.Context(), method, path, key, body, nil)
	if err != nil || a.status != status {
		t.Fatalf("%s %s: %d %v %v, want %d", method, path, a.status, a.body, err, status)
	}
	return a
}

// get reads what stands at position or later.
func (l *ledger) get(t testing.TB, path, position string) answer {
	t.Helper()
	headers := map[string]string{}
	if position != "" {
		headers["Ledger-Min-Position"] = position
	}
	a, err := l.do(t.Context(), http.MethodGet, path, l.operator, nil, headers)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("GET %s: %d %v %v", path, a.status, a.body, err)
	}
	return a
}

// license makes a tenant with one license and returns the license and its key.
func (l *ledger) license(t testing.TB, tenant string, seats, leaseSeconds int) (id, key string) {
	t.Helper()
	l.must(t, 201, "POST", "/api/v1/tenants", l.operator, map[string]any{"id": tenant, "name": "Corp " + tenant})
	a := l.must(t, 201, "POST", "/api/v1/tenants/"+tenant+"/licenses", l.operator,
		map[string]any{"product": "cad", "seats": seats, "lease_seconds": leaseSeconds})
	return a.at("license.id"), a.at("key")
}

func holder(user string) map[string]any { return map[string]any{"user": user, "machine": "m-" + user} }

func lease(id string) map[string]any { return map[string]any{"lease": id} }
