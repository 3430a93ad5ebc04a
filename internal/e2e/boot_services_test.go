package e2e

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// The services refuse a journal that is not what it was, too: also the command service, which has no files of its own, also when all
// of JetStream went back together, and also when LEDGER_CREATE is still set.
func TestDamagedJournalIsRefusedByServices(t *testing.T) {
	t.Parallel()
	s := startServices(t)
	l := s.client()
	_, key := l.License(t, "acme", 100, 3600)
	var leases []string
	acquire := func(users ...string) {
		for _, user := range users {
			leases = append(leases, l.Must(t, http.StatusCreated, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(user)).At("lease.id"))
		}
	}
	dir := t.TempDir()
	older, newer, other := filepath.Join(dir, "older"), filepath.Join(dir, "newer"), filepath.Join(dir, "other")
	live := filepath.Join(s.dir, "nats")
	acquire("ada")
	s.endAll()
	copyFolder(t, live, older)
	s.startAll()
	acquire("bob", "cem", "dan")
	seen := l.Must(t, http.StatusOK, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(leases[3]))
	l.Get(t, "/api/v1/tenants", seen.Position) // the read models stand at the end
	s.endAll()
	if err := s.postgres.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	copyFolder(t, s.dir, newer)
	remove(t, live)
	s.startPostgres()
	s.startNATS()
	s.command = s.start("commandsvc", "DATABASE_URL="+s.emptyDatabase()) // which knows of no ledger: one is made
	s.command.AwaitReady("http://" + s.addr["commandsvc"])
	for _, tenant := range []string{"a", "b", "c", "d", "e", "f"} {
		l.License(t, tenant, 1, 60) // longer than the other
	}
	end(t, s.command)
	s.nats.Stop()
	copyFolder(t, live, other)
	if err := s.postgres.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	streams, err := filepath.Glob(filepath.Join(newer, "nats/jetstream/*/streams"))
	if err != nil || len(streams) != 1 {
		t.Fatal(streams, err)
	}
	in, err := filepath.Rel(newer, streams[0])
	if err != nil {
		t.Fatal(err)
	}
	gone := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, folder string) {
			for _, name := range names {
				remove(t, filepath.Join(folder, in, name))
			}
		}
	}
	swapped := func(with string) func(*testing.T, string) {
		return func(t *testing.T, folder string) {
			remove(t, filepath.Join(folder, "nats"))
			copyFolder(t, with, filepath.Join(folder, "nats"))
		}
	}
	const (
		starts = iota // it is harmless
		waits         // not ready, until the journal is there
		ends          // exit code 1
	)
	chain := []string{"no command was taken, and no commit written", "journal-chain-broken.md", "as the read model", "partition"}
	missing := []string{"there is no ledger here any more", "none is made in its place", "restore the journal", "journal-missing.md"}
	for name, damage := range map[string]struct {
		do               func(t *testing.T, folder string)
		then             int
		command, project []string // what commandsvc and projector say
	}{
		"an older copy": {swapped(older), ends,
			append([]string{"journal chain broken: it ends at", "but was read up to", "restore the journal"}, chain...),
			[]string{"journal chain broken: it ends at", "but was read up to", "restore the journal"}},
		"another ledger's": {swapped(other), ends,
			[]string{"the read models are of the ledger", "the journal is of", "connect the right database", "no commit written"},
			// The archive or a read model, whichever is compared first.
			[]string{"journal chain broken: the ", " of the ledger ", ", the journal is of ", ": connect the right database"}},
		"a journal cut off, and no records of owners": {func(t *testing.T, folder string) {
			gone("KV_LEDGER_OWNERS")(t, folder)
			cutOff(t, filepath.Join(folder, in, "LEDGER_00"))
			cutOff(t, filepath.Join(folder, in, "LEDGER_01"))
		}, ends, append([]string{"journal chain broken: it ends at"}, chain...), []string{"journal chain broken: it ends at"}},
		"no stream of a partition": {gone("LEDGER_01"), ends,
			[]string{"has no stream LEDGER_01 any more", "restore it from a backup"}, []string{"has no stream LEDGER_01 any more"}},
		"no names": {gone("DIRECTORY_01"), ends,
			[]string{"has no stream DIRECTORY_01 any more", "restore it from a backup"}, []string{"has no stream DIRECTORY_01 any more"}},
		"no record of the ledger": {gone("KV_LEDGER"), waits, missing, []string{"there is no ledger here", "restore the journal"}},
		"no journal at all": {func(t *testing.T, folder string) { remove(t, filepath.Join(folder, "nats")) },
			waits, missing, []string{"there is no ledger here", "restore the journal"}},
		"no records of owners": {gone("KV_LEDGER_OWNERS"), starts, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := s.at(t, newer, damage.do)
			c.startNATS()
			if damage.then != starts {
				before := c.lengths()
				c.command, c.project = c.start("commandsvc"), c.start("projector")
				for service, refusal := range map[string]struct {
					p    *ledgertest.Process
					says []string
				}{"commandsvc": {c.command, damage.command}, "projector": {c.project, damage.project}} {
					said := func() bool {
						for _, text := range refusal.says {
							if !strings.Contains(refusal.p.Output(), text) {
								return false
							}
						}
						return true
					}
					if damage.then == waits {
						refusal.p.Await("missing its journal", said, refusal.p.Output)
						probe := http.Client{Timeout: time.Second} // what a probe allows
						if answer, err := probe.Get("http://" + c.addr[service] + "/readyz"); err == nil {
							answer.Body.Close()
							if answer.StatusCode == http.StatusOK {
								t.Errorf("%s is ready", service)
							}
						}
						refusal.p.Kill()
						continue
					}
					select {
					case <-refusal.p.Done():
					case <-time.After(ledgertest.Patience):
						t.Fatalf("%s does not refuse it", service)
					}
					if refusal.p.ExitCode() != 1 || !said() {
						t.Errorf("%s: exit code %d, and it does not say all of %q", service, refusal.p.ExitCode(), refusal.says)
					}
				}
				if after := c.lengths(); !maps.Equal(before, after) {
					t.Errorf("streams that were %v are %v", before, after)
				}
				c.nats.Stop()
				swapped(filepath.Join(newer, "nats"))(t, c.dir)
				c.startNATS()
			}
			c.command, c.project, c.query = c.start("commandsvc"), c.start("projector"), c.start("querysvc")
			c.ready()
			for _, lease := range leases {
				c.client().Must(t, http.StatusOK, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(lease))
			}
		})
	}
}

func (s *services) startAll() {
	s.t.Helper()
	s.startNATS()
	s.command, s.project, s.query = s.start("commandsvc"), s.start("projector"), s.start("querysvc")
	s.ready()
}

// endAll stops everything but Postgres.
func (s *services) endAll() {
	s.t.Helper()
	for _, p := range []*ledgertest.Process{s.command, s.project, s.query} {
		end(s.t, p)
	}
	s.nats.Stop()
}

// at returns services on a damaged copy of a folder that s left, with addresses of their own. Postgres is started.
func (s *services) at(t *testing.T, folder string, damage func(*testing.T, string)) *services {
	t.Helper()
	c := &services{t: t, dir: filepath.Join(t.TempDir(), "data"), operator: s.operator, addr: map[string]string{}}
	copyFolder(t, folder, c.dir)
	damage(t, c.dir)
	for name := range s.addr {
		c.addr[name] = ledgertest.FreeAddr(t)
	}
	addr := ledgertest.FreeAddr(t)
	c.natsURL, c.credentials = "nats://"+addr, filepath.Join(c.dir, "ledger.creds")
	config := filepath.Join(c.dir, "nats.conf")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.NewReplacer(s.dir, c.dir, strings.TrimPrefix(s.natsURL, "nats://"), addr).Replace(string(text))
	if err := os.WriteFile(config, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	c.startPostgres()
	t.Cleanup(func() { c.postgres.Stop(context.Background()) })
	return c
}

// emptyDatabase makes another database and returns its address.
func (s *services) emptyDatabase() string {
	s.t.Helper()
	db, err := pgx.Connect(s.t.Context(), s.postgres.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close(context.Background())
	if _, err := db.Exec(s.t.Context(), "CREATE DATABASE other"); err != nil {
		s.t.Fatal(err)
	}
	address, err := url.Parse(s.postgres.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	address.Path = "/other"
	return address.String()
}

// lengths returns how many messages each stream of the ledger ever took. That of the owners is left out: it holds no truth.
func (s *services) lengths() map[string]uint64 {
	s.t.Helper()
	nc, err := nats.Connect(s.natsURL, nats.UserCredentials(s.credentials))
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), ledgertest.Patience)
	defer cancel()
	lengths := map[string]uint64{}
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		if info.Config.Name != "KV_LEDGER_OWNERS" {
			lengths[info.Config.Name] = info.State.LastSeq
		}
	}
	if list.Err() != nil {
		s.t.Fatal(list.Err())
	}
	return lengths
}

// remove removes what is there.
func remove(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// cutOff takes the last third of a stream's newest block away, and the index, as a crash does.
func cutOff(t testing.TB, stream string) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(stream, "msgs/*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatal(blocks, err)
	}
	info, err := os.Stat(blocks[len(blocks)-1])
	if err == nil {
		err = os.Truncate(blocks[len(blocks)-1], info.Size()*2/3)
	}
	if err != nil {
		t.Fatal(err)
	}
	remove(t, filepath.Join(stream, "msgs/index.db"))
}
