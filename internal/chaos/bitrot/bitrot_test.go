package bitrot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/chaos"
	"github.com/coditect-ai/license-ledger/internal/embedded"
)

// A ledger whose files were damaged anywhere either refuses, and says what is wrong, or has every commit that it ever
// acknowledged, byte by byte.
func TestDamageIsNeverServed(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	whole := t.TempDir()
	want := fill(t, whole)
	damages := 50
	if chaos.Long() {
		damages = 1500
	}
	files := storedFiles(t, whole)
	refused, harmless, kinds := 0, 0, map[string]int{}
	for i := range damages {
		file := files[random.IntN(len(files))]
		dir := filepath.Join(t.TempDir(), "nats")
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "index.db") && random.IntN(2) == 0 { // as after a crash: the server reads the blocks themselves
			removeIndexes(t, dir)
		}
		what := damage(t, random, filepath.Join(dir, file))
		kinds[kindOf(file)]++
		got, err := reopen(t, dir)
		switch {
		case err != nil:
			refused++
			if len(err.Error()) < 20 {
				t.Errorf("%s of %s: refused, but with no more than %q", what, file, err)
			}
		default:
			harmless++
			if differs := compare(got, want); differs != "" {
				t.Fatalf("damage %d, %s of %s: served as if nothing were wrong: %s", i, what, file, differs)
			}
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d damages %v: %d refused, %d had done no harm", damages, kinds, refused, harmless)
	if refused == 0 || harmless == damages {
		t.Fatal("nothing was refused: the damage does not bite")
	}
}

// record is one stored record.
type record struct {
	id   string
	body string
}

// fill makes a ledger with a journal of some hundred commits, and returns its records by stream.
func fill(t *testing.T, dir string) map[string][]record {
	t.Helper()
	var all map[string][]record
	open(t, dir, func(store eventstore.Store, log *buffer) error {
		ws, stop, err := serve(store, log)
		if err != nil {
			return err
		}
		do := func(prepare func(eventstore.Scope) (domain.Command, error)) {
			if _, err := ws.Execute(t.Context(), eventstore.Request{Tenant: "acme", Actor: "test", Prepare: prepare}); err != nil {
				t.Fatal(err)
			}
		}
		do(func(eventstore.Scope) (domain.Command, error) {
			return domain.CreateTenant{Tenant: "acme", Name: "Acme"}, nil
		})
		do(func(eventstore.Scope) (domain.Command, error) {
			return domain.IssueLicense{License: "lic", Product: "cad", Seats: 500, Policy: domain.Policy{LeaseSeconds: 3600}, Key: domain.LicenseKey{ID: "key", Hash: []byte{1}}}, nil
		})
		for i := range 150 {
			do(func(s eventstore.Scope) (domain.Command, error) {
				return domain.AcquireSeat{License: "lic", Lease: domain.LeaseID(fmt.Sprint("lse_", i)), Holder: domain.Holder{
					User: s.Pseudonym(eventstore.UserName, fmt.Sprint("user", i)), Machine: s.Pseudonym(eventstore.MachineName, "ws"),
				}}, nil
			})
		}
		if err := stop(); err != nil {
			return err
		}
		all, err = records(t.Context(), store)
		return err
	})
	return all
}

// open starts a nats-server on dir, opens the ledger and calls f.
func open(t *testing.T, dir string, f func(eventstore.Store, *buffer) error) {
	t.Helper()
	if err := tryOpen(t, dir, f); err != nil {
		t.Fatal(err)
	}
}

func tryOpen(t *testing.T, dir string, f func(eventstore.Store, *buffer) error) error {
	t.Helper()
	log := &buffer{}
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: dir, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	nc, err := server.Connect(eventstore.NATSOptions("test")...)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := eventstore.CreateNATS(t.Context(), nc, 1, 1)
	if err != nil {
		return err
	}
	return f(store, log)
}

// serve runs the Writers until they serve, and returns how to stop them. Errors: what keeps them from serving.
func serve(store eventstore.Store, log *buffer) (*eventstore.Writers, func() error, error) {
	ws, err := eventstore.NewWriters(eventstore.WritersConfig{
		Store: store, Log: slog.New(slog.NewTextHandler(log, nil)), Registerer: prometheus.NewRegistry(), Alone: true,
	})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ws.Run(ctx) }()
	stop := func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("does not stop")
		}
	}
	for deadline := time.Now().Add(time.Minute); ; {
		switch err := ws.Ready(ctx); {
		case err == nil:
			return ws, stop, nil
		case strings.Contains(log.String(), "writer failed"), strings.Contains(log.String(), "did not get the partition"):
			// It goes on trying, and says why: nobody is answered.
			return nil, nil, errors.Join(errors.New(log.String()), stop())
		case time.Now().After(deadline):
			return nil, nil, errors.Join(fmt.Errorf("neither serving nor refusing: %w\n%s", err, log.String()), stop())
		}
		select {
		case err := <-done:
			cancel()
			return nil, nil, err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// reopen starts a ledger again and returns what it has. Errors: why it refuses.
func reopen(t *testing.T, dir string) (all map[string][]record, err error) {
	t.Helper()
	err = tryOpen(t, dir, func(store eventstore.Store, log *buffer) error {
		_, stop, err := serve(store, log)
		if err != nil {
			return err
		}
		if err := stop(); err != nil {
			return err
		}
		all, err = records(t.Context(), store)
		return err
	})
	return all, err
}

// records reads the journal and the directory.
func records(ctx context.Context, store eventstore.Store) (map[string][]record, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	all := map[string][]record{}
	for name, log := range map[string]eventstore.Log{"journal": store.Journal(0), "directory": store.Directory(0)} {
		last, err := log.Last(ctx)
		if err != nil || last == 0 {
			return nil, errors.Join(err, fmt.Errorf("%s is empty", name))
		}
		enough := errors.New("enough")
		err = log.Read(ctx, 0, func(seq uint64, r eventstore.Record) error {
			all[name] = append(all[name], record{r.ID, string(r.Body)})
			if seq == last {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			return nil, err
		}
	}
	return all, nil
}

// compare says what of want is not in got. Behind it got may have more: each start adds a commit.
func compare(got, want map[string][]record) string {
	for name, records := range want {
		if len(got[name]) < len(records) {
			return fmt.Sprintf("%s has %d records of %d", name, len(got[name]), len(records))
		}
		for i, r := range records {
			if got[name][i] != r {
				return fmt.Sprintf("record %d of %s is another one", i+1, name)
			}
		}
	}
	return ""
}

// storedFiles returns the files of a ledger's streams, those of blocks several times: they are what there is most of.
func storedFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() == 0 || strings.Contains(path, "obs") {
			return err
		}
		for range map[bool]int{true: 6, false: 1}[strings.HasSuffix(path, ".blk")] {
			files = append(files, path)
		}
		return nil
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	return files
}

func kindOf(file string) string {
	stream := filepath.Base(filepath.Dir(filepath.Dir(file)))
	if !strings.Contains(file, "msgs") {
		stream = filepath.Base(filepath.Dir(file))
	}
	return stream + "/" + filepath.Base(file)
}

// damage flips a bit, overwrites a stretch or cuts a file off.
func damage(t *testing.T, random *rand.Rand, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := random.IntN(len(content))
	if random.IntN(3) == 0 { // near the end, where the newest records are
		at = max(0, len(content)-1-random.IntN(400))
	}
	what := ""
	switch random.IntN(4) {
	case 0, 1:
		content[at] ^= 1 << random.IntN(8)
		what = fmt.Sprintf("bit flipped at %d of %d", at, len(content))
	case 2:
		end := min(len(content), at+1+random.IntN(4096))
		clear(content[at:end])
		what = fmt.Sprintf("zeros from %d to %d of %d", at, end, len(content))
	default:
		what = fmt.Sprintf("cut off at %d of %d", at, len(content))
		content = content[:at]
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}

func removeIndexes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "index.db" {
			err = os.Remove(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// buffer collects log lines.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
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
