package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// An auditor asks a running ledger, and then, when it is down, its journal; the answers are the same. An export is verified
// without either, and one that was changed is refused.
func TestAuditor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	process, l := ledgertest.Up(t, data)
	s := &shell{t: t, dir: dir, env: []string{"LEDGER_SERVER=" + l.Commands, "TZ=UTC"}}
	s.prints("tenant create acme Acme", "acme")
	s.env = append(s.env, "LEDGER_LICENSE_KEY="+regexp.MustCompile(`lk_\w+`).FindString(s.prints("license issue acme cad --seats 1")))
	lease := regexp.MustCompile(`lse_\w+`).FindString(s.prints("acquire --user ada.lovelace --machine ws-1"))
	s.fails("acquire --user bob --machine ws-2", "no_seat_available")
	s.prints("heartbeat "+lease, lease)
	// A program does not wait until queries see what it did. An operator's command does, and so for all that was before it.
	s.prints("tenant create globex Globex", "globex")

	// With a key of the tenant, the audit itself leaves nothing: what the operator reads would be in the history from then on.
	key := l.Must(t, 201, "POST", "/api/v1/tenants/acme/keys", l.Operator, map[string]any{"name": "audit", "role": "auditor"})
	auditor := &shell{t: t, dir: dir, env: append(slices.Clone(s.env), "LEDGER_OPERATOR_KEY="+key.At("secret"))}
	l.Get(t, "/api/v1/tenants", key.Position) // the key opens

	timeline := func() string {
		return auditor.prints("replay --tenant acme", "TIME", "VERSION", "EVENT",
			"tenant.created", "Acme", "license.issued", "product=cad", "seats=1", "seat.acquired", lease, "user=ada", "seat.denied", "user=bob")
	}
	running := timeline()
	if strings.Contains(running, "seat.heartbeat") || strings.Contains(running, "globex") {
		t.Errorf("replay prints\n%s", running)
	}
	auditor.prints("replay --tenant acme --heartbeats", "seat.heartbeat")
	auditor.prints("replay --tenant acme --json", `"type":"ai.coditect.tenant.created.v1"`, `"version":"1"`, `"prev":"`, `"version":"4"`)
	auditor.prints("replay --tenant acme --at 2100-01-01", "Acme (acme), active", "version 6", "cad", "active", lease, "ada", "ws-1")
	auditor.fails("replay --tenant acme --at 2000-01-01", "no events of \"acme\" at that time")
	s.fails("replay --tenant umbrella", "tenant_not_found", "ledger tenant list")
	s.fails("replay --tenant UMBRELLA", "no id of a tenant")
	s.fails("replay --tenant acme --at 2026-01-01 --from 2026-01-01", "--at")
	s.fails("replay", "--tenant")

	if said := auditor.prints("export --tenant acme --out acme.ledger", "6 events of acme, up to version 6", "head"); !strings.Contains(said, "head") {
		t.Error(said)
	}
	auditor.prints("export --tenant acme --out named.ledger --names", "6 events")

	process.Stop()
	stopped := timeline()
	if !strings.Contains(stopped, "Reading the journal in "+filepath.Join(data, "nats")) {
		t.Errorf("a stopped ledger is read without a word: %s", stopped)
	}
	rows := regexp.MustCompile(`(?m)^\d{4}-.*$`)
	if a, b := rows.FindAllString(running, -1), rows.FindAllString(stopped, -1); len(a) == 0 || strings.Join(a, "\n") != strings.Join(b, "\n") {
		t.Errorf("the running ledger says\n%s\nits journal says\n%s", running, stopped)
	}
	s.fails("replay --tenant umbrella", "no events of \"umbrella\"")
	s.fails("export --tenant umbrella --out umbrella.ledger", "no events of \"umbrella\"")
	if _, err := os.Stat(filepath.Join(dir, "umbrella.ledger")); !os.IsNotExist(err) {
		t.Errorf("an export of nobody left a file: %v", err)
	}
	s.prints("export --tenant acme --out again.ledger", "6 events of acme")
	head := regexp.MustCompile(`"head":"([\w-]{43})"},"sum"`)
	first, again := read(t, dir, "acme.ledger"), read(t, dir, "again.ledger")
	if a, b := head.FindSubmatch(first), head.FindSubmatch(again); a == nil || b == nil || !bytes.Equal(a[1], b[1]) {
		t.Fatalf("another head: %s %s", a, b)
	}
	if bytes.Contains(first, []byte("lovelace")) || !bytes.Contains(read(t, dir, "named.ledger"), []byte(`"text":"ada.lovelace"`)) {
		t.Error("names are exported when they are asked for, and not otherwise")
	}

	elsewhere := &shell{t: t, dir: dir, env: []string{"TZ=UTC", "LEDGER_SERVER=http://127.0.0.1:1"}} // it asks nobody
	elsewhere.prints("verify acme.ledger", "acme, of the ledger 0", "6 in 6 commits", "undamaged", "Chain", "whole", "no seat was oversold", string(head.FindSubmatch(first)[1]), "not compared", "seat.denied")
	elsewhere.prints("verify named.ledger --tenant acme --head "+string(head.FindSubmatch(first)[1]), "the one asked for")
	elsewhere.fails("verify acme.ledger --tenant globex", "line 1", "globex")
	elsewhere.fails("verify acme.ledger --head "+strings.Repeat("A", 42)+"E", "another history")
	elsewhere.fails("verify acme.ledger --head short", "--head")
	elsewhere.fails("verify none.ledger", "none.ledger")
	var report struct {
		End   struct{ Events int }
		Whole bool
	}
	if err := json.Unmarshal([]byte(elsewhere.prints("verify acme.ledger --json")), &report); err != nil || report.End.Events != 6 || !report.Whole {
		t.Errorf("verify --json: %v %+v", err, report)
	}
	changed := bytes.Replace(first, []byte("no_seat_available"), []byte("no_seat_avaliable"), 1)
	if err := os.WriteFile(filepath.Join(dir, "changed.ledger"), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere.fails("verify changed.ledger", "changed.ledger is not right", "line 5", "version 3")

	// What staff read of all tenants has a chain of its own.
	s.prints("replay --tenant _staff", "staff.read", "tenant.read", "test")
	s.fails("replay --tenant _staff --at 2100-01-01", "_staff is no tenant")
	s.prints("export --tenant _staff --out staff.ledger", "1 events of _staff, up to version 1")
	elsewhere.prints("verify staff.ledger", "_staff, of the ledger", "1 in 1 commits", "undamaged", "whole")

	// The whole ledger, while it is down; and with a row that no event made.
	s.prints("verify --live", "journal, partition 0", "right", "2 tenants, 1 seats in use, none oversold", "archive, partition 0", "right", "read models", "right")
	s.fails("verify --live acme.ledger", "neither a file")
	s.fails("verify", "no file to verify", "ledger verify --live")
	elsewhere.fails("verify --live --data "+t.TempDir(), "there is no ledger in")

	// A replay says of whom nobody knows the name any more.
	process, l = ledgertest.Up(t, data)
	s.env = append(s.env, "LEDGER_SERVER="+l.Commands)
	s.prints("forget --tenant acme --user ada.lovelace --yes", "Forgotten")
	if state := s.prints("replay --tenant acme --at 2100-01-01", lease, "(forgotten)", "ws-1"); strings.Contains(state, "lovelace") {
		t.Errorf("a replay knows who was forgotten: %s", state)
	}
	process.Stop()

	postgres, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: filepath.Join(data, "postgres")})
	if err != nil {
		t.Fatal(err)
	}
	db, err := pgx.Connect(t.Context(), postgres.URL())
	if err == nil {
		_, err = db.Exec(t.Context(), `UPDATE read.seat_counts SET in_use = 0 WHERE tenant_id = 'acme'`)
		err = errors.Join(err, db.Close(t.Context()))
	}
	if err := errors.Join(err, postgres.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	s.fails("verify --live", "read models", "WRONG", "acme", "in_use=1", "in_use=0", "1 of 3 checks failed")
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
