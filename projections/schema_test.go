package projections_test

import (
	"flag"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/coditect-ai/license-ledger/projections"
	"github.com/coditect-ai/license-ledger/projections/projectionstest"
)

var update = flag.Bool("update", false, "rewrite schema.sql")

// schemaText writes the schemas "archive" and "read" as the catalog of Postgres has them.
const schemaText = `
	SELECT string_agg(
		'CREATE TABLE ' || c.oid::regclass || E' (\n    ' || concat_ws(E',\n    ',
			(SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
				E',\n    ' ORDER BY a.attnum)
			FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
			(SELECT string_agg('CONSTRAINT ' || k.conname || ' ' || pg_get_constraintdef(k.oid), E',\n    ' ORDER BY k.conname)
			FROM pg_constraint k WHERE k.conrelid = c.oid))
		|| E'\n)' || coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '') || E';\n'
		|| coalesce((SELECT string_agg(pg_get_indexdef(i.indexrelid) || E';\n', '' ORDER BY i.indexrelid::regclass::text)
			FROM pg_index i WHERE i.indrelid = c.oid AND NOT i.indisprimary), '')
		|| coalesce((SELECT string_agg(pg_get_triggerdef(g.oid) || E';\n', '' ORDER BY g.tgname) FROM pg_trigger g WHERE g.tgrelid = c.oid), ''),
		E'\n' ORDER BY c.oid::regclass::text)
	FROM pg_class c WHERE c.relnamespace IN ('archive'::regnamespace, 'read'::regnamespace) AND c.relkind = 'r'`

func TestSchemaIsWhatSchemaSQLSays(t *testing.T) {
	t.Parallel()
	f := fixture{db: projectionstest.New(t)}
	got := "-- What the migrations add up to. Written by: go test ./projections -run TestSchema -update\n\nCREATE SCHEMA archive;\nCREATE SCHEMA read;\n\n" +
		f.value(t, schemaText)
	if *update {
		if err := os.WriteFile("schema.sql", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the migrations give another schema than schema.sql; run this test with -update and look at the difference\n%s", got)
	}
}

func TestSeveralServicesMayMigrateAtOnce(t *testing.T) {
	t.Parallel()
	db := projectionstest.New(t)
	if _, err := db.Exec(deadline(t), `DROP SCHEMA read CASCADE; DROP TABLE read_migrations`); err != nil {
		t.Fatal(err)
	}
	var services errgroup.Group
	for range 3 {
		services.Go(func() error { return projections.Migrate(deadline(t), db) })
	}
	if err := services.Wait(); err != nil {
		t.Fatal(err)
	}
}
