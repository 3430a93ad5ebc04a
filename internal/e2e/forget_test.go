package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
	"github.com/coditect-ai/license-ledger/projections"
)

// A person who was forgotten is nowhere any more: not in what the streams answer, not in the files of journal, directory and
// snapshots, not in a column of the database. Everything else is as it was.
func TestForgottenIsForgotten(t *testing.T) {
	t.Parallel()
	for name, compression := range map[string]jetstream.StoreCompression{"compressed": jetstream.S2Compression, "as it is": jetstream.NoCompression} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const ada, machine, bob = "Ada Quillfeather", "quillfeather-laptop", "Bob Oxenbridge"
			data, addr := t.TempDir(), ledgertest.FreeAddr(t)
			args := []string{"--nats-addr", addr, "--snapshot-every", "2000"}
			p, l := ledgertest.Up(t, data, args...)
			compress(t, addr, compression)
			license, key := l.License(t, "acme", 5, 300)
			holder := func(user, on string) map[string]any {
				return map[string]any{"user": user, "machine": on, "process": "of " + user}
			}
			acquire := func(status int, user, on string) ledgertest.Answer {
				t.Helper()
				return l.Must(t, status, "POST", "/api/v1/licenses/acquire", key, holder(user, on))
			}
			held := acquire(201, ada, machine)
			acquire(201, bob, "ox-1")
			l.Must(t, 200, "PATCH", "/api/v1/tenants/acme/licenses/"+license, l.Operator, map[string]any{"seats": 2, "reservations": []any{
				map[string]any{"name": "render team", "users": []string{ada, bob}, "seats": 1},
			}})
			denied := l.Must(t, 409, "POST", "/api/v1/licenses/acquire", key, holder(ada, "another"))
			for i := range 20 { // so that there is a snapshot with her in it
				denied = l.Must(t, 409, "POST", "/api/v1/licenses/acquire", key, holder(fmt.Sprint("user ", i), "many"))
			}
			seats := l.Get(t, "/api/v1/tenants/acme/seats", denied.Position)
			p.Stop()
			files, rows, names := traces(t, data, ada, machine)
			if len(rows) == 0 || names == 0 || (compression == jetstream.NoCompression && len(files) == 0) {
				t.Fatalf("before: found in the files %s, in the columns %s, %d times in the streams", files, rows, names)
			}
			if len(files) > 1 {
				t.Errorf("before: names are in %s, not in the directory alone", files)
			}

			p, l = ledgertest.Up(t, data, args...)
			forget := func(body map[string]any) ledgertest.Answer {
				t.Helper()
				body["reason"] = "request 4711"
				answer := l.Must(t, 200, "POST", "/api/v1/tenants/acme/forget", l.Operator, body)
				if answer.At("erased") != "true" {
					t.Fatalf("forget: %v", answer.Body)
				}
				return answer
			}
			pseudonym := forget(map[string]any{"user": ada}).At("pseudonym")
			forget(map[string]any{"process": "of " + ada})
			last := forget(map[string]any{"machine": machine})
			if nobody := forget(map[string]any{"user": ada}); nobody.Body["pseudonym"] != nil {
				t.Fatalf("forgotten again: %v", nobody.Body)
			}
			p.Kill()
			p, l = ledgertest.Up(t, data, args...)

			after := l.Get(t, "/api/v1/tenants/acme/seats", last.Position)
			if after.At("in_use") != seats.At("in_use") || len(after.Items()) != 2 {
				t.Errorf("seats before: %v\nafter: %v", seats.Body, after.Body)
			}
			for i, lease := range after.Items() {
				before := seats.Items()[i]
				if lease["id"] != held.At("lease.id") {
					if fmt.Sprint(lease) != fmt.Sprint(before) {
						t.Errorf("%v\nwas %v", lease, before)
					}
					continue
				}
				if lease["user"] != "" || lease["machine"] != "" || lease["process"] != nil || fmt.Sprint(lease["forgotten"]) != "[user machine process]" {
					t.Errorf("her lease: %v", lease)
				}
			}
			timeline := l.Get(t, "/api/v1/tenants/acme/timeline", "")
			if text := fmt.Sprint(timeline.Body); strings.Contains(text, ada) || !strings.Contains(text, bob) || !strings.Contains(fmt.Sprint(timeline.Body["forgotten"]), pseudonym) {
				t.Errorf("timeline: %s", text)
			}
			shown := l.Get(t, "/api/v1/tenants/acme/licenses/"+license, "")
			if text := fmt.Sprint(shown.Body); !strings.Contains(text, "forgotten:1") || strings.Contains(text, ada) || !strings.Contains(text, bob) {
				t.Errorf("license: %s", text)
			}
			// Her program goes on; asked for again, she is somebody else.
			if beat := l.Must(t, 200, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(held.At("lease.id"))); beat.At("lease.forgotten") != "[user machine process]" {
				t.Errorf("heartbeat: %v", beat.Body)
			}
			if code := p.Stop(); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			if files, rows, names := traces(t, data, ada, machine); len(files)+len(rows)+names > 0 {
				t.Errorf("after: found in the files %s, in the columns %s, %d times in the streams", files, rows, names)
			}
			if _, rows, names := traces(t, data, bob); len(rows) == 0 || names == 0 {
				t.Error("Bob is gone, too")
			}
		})
	}
}

// compress sets how the directory is stored.
func compress(t *testing.T, addr string, compression jetstream.StoreCompression) {
	t.Helper()
	nc, err := nats.Connect(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"DIRECTORY_00", "LEDGER_00"} {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		config.Compression = compression
		if _, err := js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
}

// traces looks for texts in a data folder that nobody uses: in the files of everything but Postgres, whose own say more than is
// still in use; in all columns of all tables; in all records of the streams.
func traces(t *testing.T, data string, texts ...string) (files, columns []string, records int) {
	t.Helper()
	holds := func(found []byte) bool {
		for _, text := range texts {
			if bytes.Contains(bytes.ToLower(found), bytes.ToLower([]byte(text))) {
				return true
			}
		}
		return false
	}
	err := filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path == filepath.Join(data, "postgres"):
			return filepath.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if holds(content) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(data, "snapshots", "partition-00.snapshot")); err != nil {
		t.Errorf("no snapshot to look into: %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), ledgertest.Patience)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	server, err := embedded.StartNATS(embedded.NATSOptions{Dir: filepath.Join(data, "nats"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	nc, err := server.Connect(eventstore.NATSOptions("test")...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	store, err := eventstore.OpenNATS(ctx, nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range []eventstore.Log{store.Journal(0), store.Directory(0)} {
		last, err := stream.Last(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); seq <= last; seq++ {
			if r, err := stream.Get(ctx, seq); err == nil && holds(r.Body) {
				records++
			}
		}
	}

	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(data, "postgres"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer postgres.Stop(context.WithoutCancel(ctx))
	db, err := pgxpool.New(ctx, postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := projections.NewArchiver(db, store, log, nil).CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	rows, err := db.Query(ctx, `SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns
		WHERE table_schema NOT IN ('pg_catalog', 'information_schema')`)
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ schema, table, name, kind string }
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
		return c, row.Scan(&c.schema, &c.table, &c.name, &c.kind)
	})
	if err != nil || len(all) < 20 {
		t.Fatalf("%d columns, %v", len(all), err)
	}
	for _, c := range all {
		for _, text := range texts {
			var found bool
			name := pgx.Identifier{c.name}.Sanitize()
			readable := fmt.Sprintf(`lower(%s::text)`, name)
			if c.kind == "bytea" {
				readable = fmt.Sprintf(`lower(encode(%s, 'escape'))`, name)
			}
			sql := fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s WHERE position(lower($1) in %s) > 0)`, pgx.Identifier{c.schema, c.table}.Sanitize(), readable)
			if err := db.QueryRow(ctx, sql, text).Scan(&found); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			if found {
				columns = append(columns, strings.Join([]string{c.schema, c.table, c.name}, "."))
			}
		}
	}
	if differences, err := projections.Compare(ctx, db, store); err != nil || len(differences) > 0 {
		t.Errorf("rows and journal: %v, %v", differences, err)
	}
	return files, columns, records
}
