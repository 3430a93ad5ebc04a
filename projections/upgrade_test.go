package projections_test

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/projections"
)

// The read models and the archive of an older version, with rows in them, become those of this one: migrated, the projector goes on where
// each projection stands, and every row is what the journal says.
//
// The file is what pg_dump --inserts --no-owner --no-privileges wrote, without comments and psql's own commands, of a ledger of two
// hundred random steps that the program with the migrations up to 00090 projected and archived. A migration that needs tables
// without rows, or empties one and leaves its checkpoint, is found by it.
func TestAnOlderVersionIsUpgraded(t *testing.T) {
	f := setup(t)
	dump, err := os.ReadFile("testdata/read_models_of_00090.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(deadline(t), f.db.Config().ConnConfig) // one of its own: the dump changes its settings
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`DROP SCHEMA read, archive CASCADE; DROP TABLE read_migrations`, string(dump)} {
		if _, err := conn.PgConn().Exec(deadline(t), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(deadline(t)); err != nil {
		t.Fatal(err)
	}

	if err := projections.Migrate(deadline(t), f.db); err != nil {
		t.Fatal(err)
	}
	f.checkNothingIsOpen(t)
	if schema, err := os.ReadFile("schema.sql"); err != nil || !strings.HasSuffix(string(schema), f.value(t, schemaText)) {
		t.Errorf("the schema is another one than that of a new database (%v)", err)
	}
	archive, err := projections.OpenArchive(deadline(t), f.db)
	if err != nil {
		t.Fatal(err)
	}
	restored, err := eventstore.Restore(deadline(t), archive, f.store, nil)
	if err != nil || len(restored) != 1 || restored[0].Commits != 55 {
		t.Fatalf("%+v, %v", restored, err)
	}
	f.project(t, projections.Options{BatchMax: 50})
	f.checkSame(t)
}
