package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// drilled is a ledger that things are lost of.
type drilled struct {
	*ledgertest.Client
	p    *ledgertest.Process
	data string
	root *testing.T // whose end stops the ledger
	last int
}

// ledger runs a command on the data folder and returns what it says and its exit code.
func (d *drilled) ledger(t *testing.T, args ...string) (string, int) {
	t.Helper()
	out, err := ledgertest.Command("ledger", append(args, "--data", d.data)...).CombinedOutput()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	if exited != nil {
		return string(out), exited.ExitCode()
	}
	return string(out), 0
}

func (d *drilled) mustSay(t *testing.T, code int, says []string, args ...string) string {
	t.Helper()
	out, exit := d.ledger(t, args...)
	for _, text := range says {
		if !strings.Contains(out, text) {
			t.Errorf("%v does not say %q", args, text)
		}
	}
	if exit != code || t.Failed() {
		t.Fatalf("%v: exit code %d\n%s", args, exit, out)
	}
	return out
}

// up starts the ledger.
func (d *drilled) up() { d.p, d.Client = ledgertest.Up(d.root, d.data) }

// query asks the private Postgres of the running ledger.
func (d *drilled) query(t *testing.T, sql string, into ...any) {
	t.Helper()
	url, err := embedded.RunningPostgresURL(filepath.Join(d.data, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	if err := db.QueryRow(t.Context(), sql).Scan(into...); err != nil {
		t.Fatal(err)
	}
}

// down stops the ledger once everything is archived. It returns how many commits there are.
func (d *drilled) down(t *testing.T) (commits int) {
	t.Helper()
	// A command whose effect is visible is in the read models; the archive follows.
	d.last++
	last := d.Must(t, 201, "POST", "/api/v1/tenants", d.Operator, map[string]any{"id": fmt.Sprint("last-", d.last), "name": "Last"})
	d.Get(t, "/api/v1/tenants", last.Position)
	d.p.Await("archive everything", func() bool {
		var archived int
		d.query(t, `SELECT coalesce(max(seq), 0), (SELECT max(seq) FROM read.checkpoints) FROM archive.commits`, &archived, &commits)
		return archived >= commits
	}, func() string { return "" })
	if code := d.p.Stop(); code != 0 {
		t.Fatalf("exit code %d: %s", code, d.p.Output())
	}
	return commits
}

// What is lost of a journal comes back from the archive, with names, ids and hashes; what cannot come back is said, and the
// ledger refuses to start until that is accepted.
func TestRestoreDrill(t *testing.T) {
	t.Parallel()
	d := &drilled{data: t.TempDir(), root: t}
	d.up()
	_, key := d.License(t, "acme", 50, 3600)
	var leases []string
	acquire := func(user string) {
		leases = append(leases, d.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(user)).At("lease.id"))
	}
	acquire("ada")
	acquire("bob")
	d.down(t)
	nats := filepath.Join(d.data, "nats")
	older := filepath.Join(t.TempDir(), "nats")
	if err := os.CopyFS(older, os.DirFS(nats)); err != nil {
		t.Fatal(err)
	}
	d.up()
	acquire("cem")
	check := func(t *testing.T) {
		t.Helper()
		var last ledgertest.Answer
		for _, lease := range leases {
			last = d.Must(t, 200, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(lease))
		}
		users := map[any]bool{}
		for _, seat := range d.Get(t, "/api/v1/tenants/acme/seats?state=active", last.Position).Items() {
			users[seat["user"]] = true
		}
		for _, user := range []string{"ada", "bob", "cem"} {
			if !users[user] {
				t.Errorf("%s has no seat: %v", user, users)
			}
		}
	}
	check(t)

	t.Run("all of it", func(t *testing.T) {
		d.down(t)
		if err := os.RemoveAll(nats); err != nil {
			t.Fatal(err)
		}
		refused := ledgertest.Command("ledger", "up", "--data", d.data, "--addr", ledgertest.FreeAddr(t))
		if out, err := refused.CombinedOutput(); err == nil || !strings.Contains(string(out), "ledger restore") {
			t.Fatalf("%v: %s", err, out)
		}
		d.mustSay(t, 0, []string{"nothing is known to be lost"}, "restore")
		d.up()
		check(t)
	})
	t.Run("one stream", func(t *testing.T) {
		d.down(t)
		stream, err := filepath.Glob(filepath.Join(nats, "jetstream", "*", "streams", "LEDGER_00"))
		if err != nil || len(stream) != 1 {
			t.Fatal(stream, err)
		}
		if err := os.RemoveAll(stream[0]); err != nil {
			t.Fatal(err)
		}
		d.mustSay(t, 0, []string{"nothing is known to be lost"}, "restore")
		d.up()
		check(t)
	})
	t.Run("the newest part", func(t *testing.T) {
		d.down(t)
		if err := errors.Join(os.RemoveAll(nats), os.CopyFS(nats, os.DirFS(older))); err != nil {
			t.Fatal(err)
		}
		d.mustSay(t, 0, []string{"nothing is known to be lost"}, "restore")
		d.up()
		check(t)
	})
	t.Run("more than is archived", func(t *testing.T) {
		commits := d.down(t)
		if err := os.RemoveAll(nats); err != nil {
			t.Fatal(err)
		}
		// As if the archive had been behind by its last commit: a tenant that was created.
		postgres, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: filepath.Join(d.data, "postgres")})
		if err != nil {
			t.Fatal(err)
		}
		db, err := pgx.Connect(t.Context(), postgres.URL())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(t.Context(), `ALTER TABLE archive.commits DISABLE TRIGGER USER; ALTER TABLE archive.slices DISABLE TRIGGER USER;
			DELETE FROM archive.slices WHERE seq = (SELECT max(seq) FROM archive.commits);
			DELETE FROM archive.commits WHERE seq = (SELECT max(seq) FROM archive.commits);
			ALTER TABLE archive.commits ENABLE TRIGGER USER; ALTER TABLE archive.slices ENABLE TRIGGER USER`); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Close(t.Context()), postgres.Stop(t.Context())); err != nil {
			t.Fatal(err)
		}
		d.mustSay(t, 1, []string{"1 commits are known to be lost", "ai.coditect.tenant.created.v1", "--accept-loss"}, "restore")
		if out, err := ledgertest.Command("ledger", "up", "--data", d.data, "--addr", ledgertest.FreeAddr(t)).CombinedOutput(); err == nil {
			t.Fatalf("the ledger starts: %s", out)
		}
		d.mustSay(t, 0, []string{"The loss is accepted"}, "restore", "--accept-loss")
		d.up()
		check(t)
		var now int
		d.query(t, `SELECT count(*) FROM read.tenants WHERE tenant_id LIKE 'last-%'`, &now)
		if now != d.last-1 {
			t.Errorf("%d tenants, after %d commits", now, commits)
		}
	})
	d.down(t)
}

// A rebuild from the command line, while the ledger serves.
func TestRebuildWhileItServes(t *testing.T) {
	t.Parallel()
	d := &drilled{data: t.TempDir(), root: t}
	d.up()
	_, key := d.License(t, "acme", 50, 3600)
	d.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("ada"))
	d.mustSay(t, 0, []string{"leases", "the same", "Version 2 serves now"}, "rebuild")
	a := d.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("bob"))
	if n := len(d.Get(t, "/api/v1/tenants/acme/seats?state=active", a.Position).Items()); n != 2 {
		t.Errorf("%d seats", n)
	}
	d.mustSay(t, 0, []string{"usage_days", "Version 3 serves now"}, "rebuild", "--projection", "usage,tenants")
	d.mustSay(t, 0, []string{"Version 2 serves now"}, "rebuild", "--rollback")
	d.mustSay(t, 1, []string{"there is no such projection"}, "rebuild", "--projection", "usages")
	d.mustSay(t, 0, []string{"usage is parked"}, "projection", "park", "usage")
	a = d.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder("cem"))
	if n := len(d.Get(t, "/api/v1/tenants/acme/seats?state=active", a.Position).Items()); n != 3 {
		t.Errorf("%d seats", n)
	}
	var standing []struct {
		Projection string
		Because    string
	}
	out, _ := d.ledger(t, "projection", "list", "--json")
	if err := json.Unmarshal([]byte(out), &standing); err != nil || len(standing) < 8 {
		t.Fatal(err, out)
	}
	d.mustSay(t, 0, []string{"goes on"}, "projection", "retry", "usage")
	d.p.Await("go on", func() bool {
		var same bool
		d.query(t, `SELECT min(seq) = max(seq) FROM read.checkpoints`, &same)
		return same
	}, func() string { return "" })
	if code := d.p.Stop(); code != 0 {
		t.Fatal(d.p.Output())
	}
	// And while it is down, after Postgres was lost but for its archive.
	d.mustSay(t, 0, []string{"the same"}, "rebuild")
	if _, err := os.Stat(filepath.Join(d.data, "ledger.lock")); errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	d.up()
	d.down(t)
}

// A nats-server that lost its disk is filled again from a Postgres elsewhere, over the network and with credentials, in all partitions.
func TestRestoreOfServices(t *testing.T) {
	t.Parallel()
	s := startServices(t)
	l := s.client()
	leases := map[string]string{} // to the key of its license
	var last ledgertest.Answer
	for i := range 4 { // tenants of both partitions
		_, key := l.License(t, fmt.Sprint("tenant-", i), 5, 3600)
		for _, user := range []string{"ada", "bob"} {
			last = l.Must(t, 201, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(user))
			leases[last.At("lease.id")] = key
		}
	}
	db, err := pgx.Connect(t.Context(), s.postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	l.Get(t, "/api/v1/tenants", last.Position)
	var commits, archived, partitions int
	s.project.Await("archive everything", func() bool {
		if err := db.QueryRow(t.Context(), `SELECT sum(c.seq), sum(coalesce(a.seq, 0)), count(*)
			FROM (SELECT partition, max(seq) AS seq FROM read.checkpoints GROUP BY 1) c
			LEFT JOIN (SELECT partition, max(seq) AS seq FROM archive.commits GROUP BY 1) a USING (partition)`).Scan(&commits, &archived, &partitions); err != nil {
			t.Fatal(err)
		}
		return archived >= commits
	}, func() string { return fmt.Sprint(archived, " of ", commits) })
	if partitions != 2 {
		t.Fatalf("%d partitions have commits", partitions)
	}
	for _, p := range []*ledgertest.Process{s.command, s.query, s.project} {
		p.Stop()
	}
	s.nats.Kill()
	if err := os.RemoveAll(filepath.Join(s.dir, "nats")); err != nil {
		t.Fatal(err)
	}
	s.startNATS()
	waiting := s.start("commandsvc") // although it may create a ledger: the read models know that there was one
	waiting.Await("asking for its ledger", func() bool { return strings.Contains(waiting.Output(), "restore the journal") }, func() string { return "" })
	waiting.Stop()
	for _, again := range []bool{false, true} { // that it is called once more changes nothing
		out, err := ledgertest.Command("ledger", "restore", "--nats-url", s.natsURL, "--nats-credentials", s.credentials, "--database-url", s.postgres.URL()).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "nothing is known to be lost") {
			t.Fatalf("again %t: %v\n%s", again, err, out)
		}
	}
	s.command, s.project, s.query = s.start("commandsvc"), s.start("projector"), s.start("querysvc")
	s.ready()
	for lease, key := range leases {
		last = l.Must(t, 200, "POST", "/api/v1/licenses/heartbeat", key, ledgertest.Lease(lease))
		l.Get(t, "/api/v1/tenants", last.Position) // the read models go on from where they were
	}
	users := map[any]int{}
	for i := range 4 {
		for _, seat := range l.Get(t, fmt.Sprintf("/api/v1/tenants/tenant-%d/seats?state=active", i), last.Position).Items() {
			users[seat["user"]]++
		}
	}
	if users["ada"] != 4 || users["bob"] != 4 {
		t.Errorf("who has a seat: %v", users)
	}
	s.check(&ledgertest.Acknowledged{}, 5)
}
