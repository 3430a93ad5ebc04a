package e2e

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// A journal that is not what it was is refused with a message that says what is missing and what to do; and the refusal does no
// harm: once the right files are back the ledger starts, and has everything that was ever acknowledged.
func TestDamagedJournalIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	older, newer, other := filepath.Join(dir, "older"), filepath.Join(dir, "newer"), filepath.Join(dir, "other")
	work := filepath.Join(dir, "work")
	var leases []string
	acquire := func(c *ledgertest.Client, key, user string) {
		leases = append(leases, c.Must(t, http.StatusCreated, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(user)).At("lease.id"))
	}
	p, c := ledgertest.Up(t, work)
	_, key := c.License(t, "acme", 100, 3600)
	acquire(c, key, "ada")
	end(t, p)
	copyFolder(t, work, older)
	p, c = ledgertest.Up(t, work)
	for _, user := range []string{"bob", "cem", "dan"} {
		acquire(c, key, user)
	}
	seen := c.Must(t, http.StatusOK, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(leases[3]))
	c.Get(t, "/api/v1/tenants", seen.Position) // the read models stand at the end
	end(t, p)
	copyFolder(t, work, newer)
	p, c = ledgertest.Up(t, other)
	for _, tenant := range []string{"a", "b", "c", "d"} {
		c.License(t, tenant, 1, 60) // as long as the other
	}
	end(t, p)

	const streams = "nats/jetstream/$G/streams/"
	for name, damage := range map[string]struct {
		do   func(t *testing.T, folder string)
		says []string // nothing: it is not refused
	}{
		"an older copy": {func(t *testing.T, folder string) {
			remove(t, filepath.Join(folder, "nats"))
			copyFolder(t, filepath.Join(older, "nats"), filepath.Join(folder, "nats"))
		}, []string{"partition 0", "journal chain broken: it ends at", "but was read up to", "restore the journal"}},
		"another ledger's": {func(t *testing.T, folder string) {
			remove(t, filepath.Join(folder, "nats"))
			copyFolder(t, filepath.Join(other, "nats"), filepath.Join(folder, "nats"))
		}, []string{"the read models are of the ledger", "the journal is of", "connect the right database"}},
		"no journal at all": {func(t *testing.T, folder string) { remove(t, filepath.Join(folder, "nats")) },
			[]string{"there is no ledger here any more", "is missing from", "from a backup"}},
		"no stream of the partition": {func(t *testing.T, folder string) { remove(t, filepath.Join(folder, streams, "LEDGER_00")) },
			[]string{"has no stream LEDGER_00 any more", "restore it from a backup"}},
		"no names": {func(t *testing.T, folder string) { remove(t, filepath.Join(folder, streams, "DIRECTORY_00")) },
			[]string{"has no stream DIRECTORY_00 any more", "restore it from a backup"}},
		"no record of the ledger": {func(t *testing.T, folder string) { remove(t, filepath.Join(folder, streams, "KV_LEDGER")) },
			[]string{"there is no ledger here any more", "from a backup"}},
		"a journal cut off": {func(t *testing.T, folder string) { cutOff(t, filepath.Join(folder, streams, "LEDGER_00")) },
			[]string{"partition 0", "journal chain broken: it ends at", "but was read up to", "restore the journal"}},
		"no records of owners": {func(t *testing.T, folder string) { remove(t, filepath.Join(folder, streams, "KV_LEDGER_OWNERS")) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join(t.TempDir(), "data")
			copyFolder(t, newer, folder)
			damage.do(t, folder)
			if damage.says != nil {
				p := ledgertest.Launch(t, nil, "ledger", "up", "--addr", ledgertest.FreeAddr(t), "--data", folder)
				select {
				case <-p.Done():
				case <-time.After(ledgertest.Patience):
					t.Fatal("it is not refused")
				}
				if p.ExitCode() == 0 {
					t.Error("the exit code is 0")
				}
				for _, text := range append(damage.says, "nothing was started, and nothing written") {
					if !strings.Contains(p.Output(), text) {
						t.Errorf("it does not say %q:\n%s", text, p.Output())
					}
				}
				if err := os.RemoveAll(filepath.Join(folder, "nats")); err != nil {
					t.Fatal(err)
				}
				copyFolder(t, filepath.Join(newer, "nats"), filepath.Join(folder, "nats"))
			}
			p, c := ledgertest.Up(t, folder)
			for _, lease := range leases {
				c.Must(t, http.StatusOK, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(lease))
			}
			end(t, p)
		})
	}
}

// end stops a process that has to end well.
func end(t testing.TB, p *ledgertest.Process) {
	t.Helper()
	if code := p.Stop(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, p.Output())
	}
}

// copyFolder copies all below from, with its owners: a database is refused to anybody else.
func copyFolder(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			err = os.MkdirAll(target, info.Mode().Perm())
		case info.Mode().IsRegular():
			err = copyFile(path, target, info.Mode().Perm())
		default:
			return nil // a socket of a process that has ended
		}
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t); os.Getuid() == 0 {
			return os.Chown(target, int(owner.Uid), int(owner.Gid))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

// A command service does not replace a journal that has vanished: it waits, says so, and goes on when it is back.
func TestVanishedJournalIsNotReplaced(t *testing.T) {
	t.Parallel()
	s := startServices(t)
	l := s.client()
	_, key := l.License(t, "acme", 2, 3600)
	lease := l.Must(t, http.StatusCreated, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("ada")).At("lease.id")
	s.command.Stop()
	s.nats.Stop()
	store := filepath.Join(s.dir, "nats")
	if err := os.Rename(store, store+".away"); err != nil {
		t.Fatal(err)
	}
	s.startNATS()
	s.command = s.start("commandsvc", "LEDGER_CREATE=false")
	s.command.Await("missing its ledger", func() bool {
		return strings.Contains(s.command.Output(), "there is no ledger here") && strings.Contains(s.command.Output(), "restore the journal")
	}, s.command.Output)
	probe := http.Client{Timeout: time.Second} // what a probe allows
	if response, err := probe.Get("http://" + s.addr["commandsvc"] + "/readyz"); err == nil {
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			t.Error("it is ready without a ledger")
		}
	}
	s.nats.Stop()
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(store+".away", store); err != nil {
		t.Fatal(err)
	}
	s.startNATS()
	s.command.AwaitReady("http://" + s.addr["commandsvc"])
	l.Must(t, http.StatusOK, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(lease))
}

// Several that create a ledger at once make one.
func TestLedgerIsCreatedOnce(t *testing.T) {
	t.Parallel()
	for range 5 {
		addr, dir := ledgertest.FreeAddr(t), t.TempDir()
		config := filepath.Join(dir, "nats.conf")
		if err := os.WriteFile(config, []byte("listen: \""+addr+"\"\njetstream: { store_dir: \""+dir+"\" }\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		server := ledgertest.Launch(t, nil, "nats-server", "--config", config)
		ctx, cancel := context.WithTimeout(t.Context(), ledgertest.Patience)
		defer cancel()
		var g errgroup.Group
		ids := make([]string, 4)
		for i := range ids {
			g.Go(func() error {
				nc, err := nats.Connect("nats://"+addr, eventstore.NATSOptions("test")...)
				if err != nil {
					return err
				}
				defer nc.Close()
				for !nc.IsConnected() && ctx.Err() == nil {
					time.Sleep(time.Millisecond)
				}
				for {
					store, err := eventstore.CreateNATS(ctx, nc, 3, 1)
					if err == nil {
						ids[i] = store.Info().ID
						return nil
					}
					if ctx.Err() != nil || (nc.IsConnected() && !errors.Is(err, eventstore.ErrNoLedger)) {
						return err
					}
				}
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if id != ids[0] || id == "" {
				t.Errorf("ledgers %q", ids)
			}
		}
		server.Kill()
	}
}
